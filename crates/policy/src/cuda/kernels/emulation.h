// What the kernels need of the compiler, on a CPU: every thread of a block is a fiber, and a barrier is where
// fibers change. Blocks run one after the other. Between barriers, threads and warps take turns in another order
// every time, so that what a missing barrier leaves to chance comes out differently. A barrier that not all
// threads of its warp or block reach ends the program, as it would hang a GPU.

#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <ucontext.h>
#include <utility>
#include <vector>

#define DEVICE inline
#define KERNEL(threads, name) static void name
#define __shared__ static thread_local

typedef unsigned long long address;

namespace emulation {

struct Index {
    unsigned x, y, z;
};

enum State { READY, AT_WARP, AT_BLOCK, ENDED };

// What a thread shows the others of its warp.
union Shown {
    float real;
    unsigned words[6];
};

constexpr unsigned WARP = 32, STACK = 1 << 18;

struct Fiber {
    jmp_buf place;
    ucontext_t first;
    std::unique_ptr<char[]> stack;
    State state;
    bool started;
};

struct Block {
    Index block, grid, threads;
    unsigned current;
    std::vector<Fiber> fibers;
    std::vector<Shown> shown;
    std::vector<unsigned char> memory;
    jmp_buf scheduler;
    ucontext_t home;
    void (*work)(void *);
    void *argument;
    // Of the order of turns.
    uint64_t turns;
};

static thread_local Block running;

static void leave(State state) {
    Block &b = running;
    Fiber &fiber = b.fibers[b.current];
    fiber.state = state;
    if (_setjmp(fiber.place) == 0) _longjmp(b.scheduler, 1);
}

static void enter() {
    running.work(running.argument);
    running.fibers[running.current].state = ENDED;
    _longjmp(running.scheduler, 1);
}

static void resume(unsigned index) {
    Block &b = running;
    b.current = index;
    Fiber &fiber = b.fibers[index];
    if (_setjmp(b.scheduler) != 0) return;
    if (fiber.started) _longjmp(fiber.place, 1);
    fiber.started = true;
    setcontext(&fiber.first);
}

[[noreturn]] static void diverged(const char *what) {
    std::fprintf(stderr, "a barrier of a %s is not reached by all its threads\n", what);
    std::abort();
}

static unsigned turn() {
    running.turns = running.turns * 6364136223846793005u + 1442695040888963407u;
    return running.turns >> 33;
}

static void run_block() {
    Block &b = running;
    unsigned count = b.threads.x, ended = 0;
    for (unsigned i = 0; i < count; i++) {
        Fiber &fiber = b.fibers[i];
        fiber.state = READY;
        fiber.started = false;
        getcontext(&fiber.first);
        fiber.first.uc_stack.ss_sp = fiber.stack.get();
        fiber.first.uc_stack.ss_size = STACK;
        fiber.first.uc_link = nullptr;
        makecontext(&fiber.first, enter, 0);
    }
    while (ended < count) {
        unsigned first_warp = turn();
        for (unsigned w = 0; w < count / WARP; w++) {
            unsigned warp = (w + first_warp) % (count / WARP) * WARP;
            for (bool again = true; again;) {
                unsigned waiting = 0, order = turn() % WARP;
                for (unsigned i = 0; i < WARP; i++) {
                    unsigned thread = warp + (i ^ order);
                    if (b.fibers[thread].state == READY) resume(thread);
                    waiting += b.fibers[thread].state == AT_WARP;
                }
                if (waiting != 0 && waiting != WARP) diverged("warp");
                again = waiting != 0;
                for (unsigned i = warp; again && i < warp + WARP; i++) b.fibers[i].state = READY;
            }
        }
        unsigned waiting = 0;
        ended = 0;
        for (unsigned i = 0; i < count; i++) {
            waiting += b.fibers[i].state == AT_BLOCK;
            ended += b.fibers[i].state == ENDED;
        }
        if (waiting != 0 && ended != 0) diverged("block");
        for (unsigned i = 0; waiting != 0 && i < count; i++) b.fibers[i].state = READY;
    }
}

static void launch(Index grid, unsigned threads, unsigned shared, void (*work)(void *), void *argument) {
    Block &b = running;
    if (threads % WARP != 0) diverged("launch of part of a warp");
    b.grid = grid;
    b.threads = {threads, 1, 1};
    b.work = work;
    b.argument = argument;
    b.shown.resize(threads);
    while (b.fibers.size() < threads) {
        b.fibers.emplace_back();
        b.fibers.back().stack.reset(new char[STACK]);
    }
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                b.block = {x, y, z};
                // Shared memory holds whatever was there before: NaN, to be found.
                b.memory.assign(shared + 16, 0xff);
                run_block();
            }
}

template <class... A, size_t... I>
static void apply(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A *>(arguments[I])...);
}

template <class... A>
static void start(void (*kernel)(A...), const unsigned *grid, unsigned threads, unsigned shared, void **arguments) {
    struct Call {
        void (*kernel)(A...);
        void **arguments;
    } call = {kernel, arguments};
    auto work = [](void *call) {
        Call &c = *static_cast<Call *>(call);
        apply(c.kernel, c.arguments, std::index_sequence_for<A...>());
    };
    launch({grid[0], grid[1], grid[2]}, threads, shared, work, &call);
}

static unsigned char *memory() {
    auto first = reinterpret_cast<uintptr_t>(running.memory.data());
    return reinterpret_cast<unsigned char *>((first + 15) & ~uintptr_t(15));
}

static Index thread() { return {running.current, 0, 0}; }

}  // namespace emulation

#define EXPORT(name)                                                                                           \
    extern "C" void emulated_##name(const unsigned *grid, unsigned threads, unsigned shared, void **arguments) { \
        emulation::start(name, grid, threads, shared, arguments);                                              \
    }

#define block_memory (emulation::memory())
#define threadIdx (emulation::thread())
#define blockIdx (emulation::running.block)
#define blockDim (emulation::running.threads)
#define gridDim (emulation::running.grid)

static void __syncthreads() { emulation::leave(emulation::AT_BLOCK); }
static void __syncwarp() { emulation::leave(emulation::AT_WARP); }

static float __shfl_xor_sync(unsigned, float value, int mask) {
    auto &b = emulation::running;
    b.shown[b.current].real = value;
    __syncwarp();
    float other = b.shown[b.current ^ mask].real;
    __syncwarp();
    return other;
}

struct bfloat16 {
    unsigned short bits;
};

static float widen(bfloat16 x) {
    unsigned bits = (unsigned)x.bits << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

static void narrow(float x, bfloat16 &y) {
    unsigned bits;
    std::memcpy(&bits, &x, 4);
    y.bits = x != x ? 0x7fff : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

// As the instruction spreads a, b and c over the lanes of a warp (PTX, `mma.m16n8k16`).
static void tensor_product(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    auto &block = emulation::running;
    unsigned first = block.current & ~31u, lane = block.current & 31u;
    emulation::Shown &own = block.shown[block.current];
    std::memcpy(own.words, a, sizeof a);
    std::memcpy(own.words + 4, b, sizeof b);
    __syncwarp();
    auto part = [&](unsigned lane, unsigned word, unsigned place) {
        unsigned short bits = block.shown[first + lane].words[word] >> (place % 2 * 16);
        return widen(bfloat16{bits});
    };
    for (unsigned i = 0; i < 4; i++) {
        unsigned row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        for (unsigned k = 0; k < 16; k++) {
            float x = part(row % 8 * 4 + k % 8 / 2, row / 8 + k / 8 * 2, k);
            float y = part(column * 4 + k % 8 / 2, 4 + k / 8, k);
            c[i] += x * y;
        }
    }
    __syncwarp();
}
