// Products of small matrices in shared memory by one warp: tensor cores for bfloat16, float elsewhere.

// HEAD rounded up to whole steps of the products.
const int WIDTH = (HEAD + 15) / 16 * 16;
// Elements from row to row of a tile of queries, keys or values: 16 bytes more, so that rows begin in other banks.
const int PITCH = WIDTH + 16 / (int)sizeof(number);

// A warp's 16 x 8N numbers. Lane l holds, of each 8 columns n, rows l / 4 and l / 4 + 8 of the columns
// 2 (l % 4) and 2 (l % 4) + 1: [n][0..2] and [n][2..4].
template <int N> struct Tile {
    float at[N][4];

    DEVICE void clear() {
        for (int n = 0; n < N; n++)
            for (int i = 0; i < 4; i++) at[n][i] = 0;
    }
};

DEVICE int tile_row(int i) { return lane() / 4 + i / 2 * 8; }
DEVICE int tile_column(int n, int i) { return n * 8 + lane() % 4 * 2 + i % 2; }

DEVICE unsigned pair(const number *first, const number *second) {
#if NUMBER
    return first->bits | (unsigned)second->bits << 16;
#else
    return 0;
#endif
}

// Where element (k, n) of the second factor lies: row n of a tile of rows, or row k of a tile of columns.
template <bool ROWS> DEVICE const number *factor(const number *b, int pitch, int k, int n) {
    return ROWS ? b + n * pitch + k : b + k * pitch + n;
}

// c += a[16 x depth] b[depth x 8N]; b is stored with its columns as rows where ROWS. depth is a multiple of 16.
template <bool ROWS, int N>
DEVICE void multiply(Tile<N> &c, const number *a, int a_pitch, const number *b, int b_pitch, int depth) {
    int row = lane() / 4, place = lane() % 4 * 2;
#if NUMBER
    for (int k = 0; k < depth; k += 16) {
        unsigned left[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const number *at = a + (row + i % 2 * 8) * a_pitch + k + place + i / 2 * 8;
            left[i] = *(const unsigned *)at;
        }
#pragma unroll
        for (int n = 0; n < N; n++) {
            unsigned right[2];
            for (int i = 0; i < 2; i++) {
                int depth_at = k + place + i * 8;
                right[i] = pair(factor<ROWS>(b, b_pitch, depth_at, n * 8 + row),
                                factor<ROWS>(b, b_pitch, depth_at + 1, n * 8 + row));
            }
            tensor_product(c.at[n], left, right);
        }
    }
#else
    for (int k = 0; k < depth; k++) {
        float above = a[row * a_pitch + k], below = a[(row + 8) * a_pitch + k];
#pragma unroll
        for (int n = 0; n < N; n++) {
            float first = *factor<ROWS>(b, b_pitch, k, n * 8 + place);
            float second = *factor<ROWS>(b, b_pitch, k, n * 8 + place + 1);
            c.at[n][0] += above * first;
            c.at[n][1] += above * second;
            c.at[n][2] += below * first;
            c.at[n][3] += below * second;
        }
    }
#endif
}

// Sum and maximum over the four lanes that hold a row.
DEVICE float row_sum(float value) {
    value += __shfl_xor_sync(WHOLE_WARP, value, 1);
    return value + __shfl_xor_sync(WHOLE_WARP, value, 2);
}

DEVICE float row_maximum(float value) {
    value = fmaxf(value, __shfl_xor_sync(WHOLE_WARP, value, 1));
    return fmaxf(value, __shfl_xor_sync(WHOLE_WARP, value, 2));
}

// Copies `count` of `rows` rows of a head into a tile, zeros behind them and behind HEAD.
DEVICE void load_tile(number *tile, int rows, const number *from, size_t stride, int count) {
    for (int i = threadIdx.x; i < rows * WIDTH; i += blockDim.x) {
        int row = i / WIDTH, column = i % WIDTH;
        number value;
        if (row < count && column < HEAD)
            value = from[row * stride + column];
        else
            narrow(0.0f, value);
        tile[row * PITCH + column] = value;
    }
}
