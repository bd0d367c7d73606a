// Numbers and sums that all kernels share.

#if NUMBER
typedef bfloat16 number;
#else
typedef float number;
#endif

DEVICE float widen(float x) { return x; }
DEVICE void narrow(float x, float &y) { y = x; }

DEVICE float exponential(float x) { return exp2f(x * 1.44269504088896341f); }

DEVICE unsigned lane() { return threadIdx.x % 32; }
DEVICE unsigned warp() { return threadIdx.x / 32; }

const unsigned WHOLE_WARP = 0xffffffffu;

DEVICE float warp_sum(float value) {
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(WHOLE_WARP, value, step);
    return value;
}

DEVICE float warp_maximum(float value) {
    for (int step = 16; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(WHOLE_WARP, value, step));
    return value;
}

// Sum over a block of at most 1024 threads, the same for every thread.
DEVICE float block_sum(float value) {
    __shared__ float parts[32];
    value = warp_sum(value);
    __syncthreads();
    if (lane() == 0) parts[warp()] = value;
    __syncthreads();
    float sum = 0;
    for (unsigned i = 0; i < blockDim.x / 32; i++) sum += parts[i];
    return sum;
}
