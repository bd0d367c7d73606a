// The library of products on a CPU: row-major c[m x n] = a[m x k] b[k x n] + beta c, either factor transposed
// where asked; c holds floats or numbers.
extern "C" void emulated_product(int m, int n, int k, const number *a, int a_stride, int a_transposed,
                                 const number *b, int b_stride, int b_transposed, float beta, void *c, int c_stride,
                                 int c_floats) {
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            float sum = 0;
            for (int l = 0; l < k; l++) {
                number x = a_transposed ? a[(size_t)l * a_stride + i] : a[(size_t)i * a_stride + l];
                number y = b_transposed ? b[(size_t)j * b_stride + l] : b[(size_t)l * b_stride + j];
                sum += widen(x) * widen(y);
            }
            size_t at = (size_t)i * c_stride + j;
            if (c_floats) {
                float *out = (float *)c + at;
                *out = sum + (beta != 0 ? beta * *out : 0.0f);
            } else {
                number *out = (number *)c + at;
                narrow(sum + (beta != 0 ? beta * widen(*out) : 0.0f), *out);
            }
        }
}
