// What the kernels need of the compiler, on a GPU (NVRTC). `emulation.h` is the same for a CPU.
// Before it come NUMBER (0: float, 1: bfloat16), HEAD (width of an attention head) and SMALL (1: smaller tiles).

#define DEVICE __device__ __forceinline__
#define KERNEL(threads, name) extern "C" __global__ void __launch_bounds__(threads) name
#define EXPORT(name)

extern __shared__ __align__(16) unsigned char block_memory[];

#define INFINITY __int_as_float(0x7f800000)

typedef unsigned long long address;

struct bfloat16 {
    unsigned short bits;
};

DEVICE float widen(bfloat16 x) { return __uint_as_float((unsigned)x.bits << 16); }

DEVICE void narrow(float x, bfloat16 &y) { asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); }

// c[16 x 8] += a[16 x 16] b[16 x 8] by one warp; the instruction's own layout of a, b and c over lanes.
DEVICE void tensor_product(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
