// The optimizer's pass, and the norm of the gradient.

// One AdamW update of a tensor, and the copy that products use, if there is one. One thread an element.
KERNEL(256, adamw)(float *weights, float *firsts, float *seconds, const float *gradient, long long count,
                   float gradient_scale, float beta1, float beta2, float epsilon, float keep, float step, float root,
                   number *copy) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    float g = gradient[i] * gradient_scale;
    float m = beta1 * firsts[i] + (1 - beta1) * g;
    float v = beta2 * seconds[i] + (1 - beta2) * g * g;
    float w = weights[i] * keep - step * m / (sqrtf(v) * root + epsilon);
    firsts[i] = m;
    seconds[i] = v;
    weights[i] = w;
    if (copy) narrow(w, copy[i]);
}
EXPORT(adamw)

// copy = weights as numbers. One thread an element.
KERNEL(256, round_weights)(const float *weights, long long count, number *copy) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) narrow(weights[i], copy[i]);
}
EXPORT(round_weights)

// parts[block] = sum of the squares of every gridDim.x-th run of 256 elements, in double precision.
KERNEL(256, sum_squares)(const float *values, long long count, double *parts) {
    __shared__ double sums[256];
    double sum = 0;
    for (long long i = (long long)blockIdx.x * 256 + threadIdx.x; i < count; i += (long long)gridDim.x * 256)
        sum += (double)values[i] * values[i];
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int i = 1; i < 256; i++) sum += sums[i];
        parts[blockIdx.x] = sum;
    }
}
EXPORT(sum_squares)
