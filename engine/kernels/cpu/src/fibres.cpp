#include "fibres.hpp"

#include <sys/mman.h>

#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if !defined(__x86_64__) && !defined(MMSB_UCONTEXT)
#define MMSB_UCONTEXT 1
#endif
#if defined(MMSB_UCONTEXT)
#include <ucontext.h>
#endif

namespace emulator {

thread_local constinit Here here = {};

namespace {

constexpr unsigned int WARP = 32;
constexpr unsigned int MAX_THREADS = 1024;
constexpr std::size_t STACK_BYTES = 64 * 1024;

// Stacks of equal alignment would all be in the same sets of the processor's cache.
constexpr std::size_t COLOUR_BYTES = 320;

#if defined(MMSB_UCONTEXT)
struct Context {
    ucontext_t context;
};
#else
struct Context {
    void* stack;
};

// Keeps what the calling convention says a function keeps, and nothing else: `swapcontext` enters the kernel for the signal mask.
extern "C" void mmsb_emulator_switch(void** save, void* load);
asm(R"(
.text
.p2align 4
.local mmsb_emulator_switch
.type mmsb_emulator_switch, @function
mmsb_emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size mmsb_emulator_switch, .-mmsb_emulator_switch
)");
#endif

struct Fibre {
    Context context;
    unsigned int parity;
};

struct Warp {
    // Lanes that can run, that have ended, and that wait for the rest of the warp.
    std::uint32_t ready, ended, waiting, all;
    // Two generations, so that a lane may bring its next value before all have read this one.
    unsigned long long values[2][WARP];
};

struct Block {
    char* stacks = nullptr;
    Context scheduler;
    Fibre fibres[MAX_THREADS];
    Warp warps[MAX_THREADS / WARP];
    unsigned int threads, warp_count, current;
    unsigned int waiting, ended;
    bool any, any_before;
    const char* problem;
    void (*kernel)(void* const*);
    void* const* params;
    Order order;
    std::uint64_t random;
#if defined(__SANITIZE_ADDRESS__)
    void* scheduler_fake_stack;
    const void* scheduler_bottom;
    std::size_t scheduler_bytes;
    void* fake_stacks[MAX_THREADS];
#endif

    ~Block() {
        if (stacks != nullptr) {
            munmap(stacks, MAX_THREADS * STACK_BYTES);
        }
    }
};

thread_local Block* block = nullptr;

// The block of this thread; kept, as its stacks are worth keeping.
Block* own_block() {
    static thread_local Block own;
    if (own.stacks == nullptr) {
        void* stacks = mmap(nullptr, MAX_THREADS * STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                            -1, 0);
        own.stacks = stacks == MAP_FAILED ? nullptr : static_cast<char*>(stacks);
    }
    return own.stacks == nullptr ? nullptr : &own;
}

char* stack_bottom(unsigned int thread) {
    return block->stacks + thread * STACK_BYTES;
}

std::size_t stack_bytes(unsigned int thread) {
    return STACK_BYTES - thread % 12 * COLOUR_BYTES;
}

void enter_scheduler() {
    const unsigned int thread = block->current;
#if defined(__SANITIZE_ADDRESS__)
    const bool has_ended = (block->warps[thread / WARP].ended >> (thread % WARP) & 1) != 0;
    __sanitizer_start_switch_fiber(has_ended ? nullptr : &block->fake_stacks[thread], block->scheduler_bottom,
                                   block->scheduler_bytes);
#endif
#if defined(MMSB_UCONTEXT)
    swapcontext(&block->fibres[thread].context.context, &block->scheduler.context);
#else
    mmsb_emulator_switch(&block->fibres[thread].context.stack, block->scheduler.stack);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(block->fake_stacks[thread], nullptr, nullptr);
#endif
}

void enter_fibre(unsigned int thread) {
    block->current = thread;
    here.thread = {thread % here.block_dim.x, thread / here.block_dim.x % here.block_dim.y,
                   thread / here.block_dim.x / here.block_dim.y};
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&block->scheduler_fake_stack, stack_bottom(thread), stack_bytes(thread));
#endif
#if defined(MMSB_UCONTEXT)
    swapcontext(&block->scheduler.context, &block->fibres[thread].context.context);
#else
    mmsb_emulator_switch(&block->scheduler.stack, block->fibres[thread].context.stack);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(block->scheduler_fake_stack, nullptr, nullptr);
#endif
}

// Where a fibre begins; it never returns.
void fibre_main() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &block->scheduler_bottom, &block->scheduler_bytes);
#endif
    block->kernel(block->params);
    Warp& warp = block->warps[block->current / WARP];
    warp.ended |= 1u << (block->current % WARP);
    ++block->ended;
    enter_scheduler();
    __builtin_trap();
}

void prepare_fibre(unsigned int thread) {
    Fibre& fibre = block->fibres[thread];
    fibre.parity = 0;
#if defined(__SANITIZE_ADDRESS__)
    block->fake_stacks[thread] = nullptr;
    __asan_unpoison_memory_region(stack_bottom(thread), STACK_BYTES);
#endif
#if defined(MMSB_UCONTEXT)
    getcontext(&fibre.context.context);
    fibre.context.context.uc_stack.ss_sp = stack_bottom(thread);
    fibre.context.context.uc_stack.ss_size = stack_bytes(thread);
    fibre.context.context.uc_link = nullptr;
    makecontext(&fibre.context.context, fibre_main, 0);
#else
    // Six registers, where to go, and a return address of nobody: what the switch expects, aligned as a call leaves it.
    void** top = reinterpret_cast<void**>(stack_bottom(thread) + stack_bytes(thread));
    top -= 8;
    std::memset(top, 0, 8 * sizeof(void*));
    top[6] = reinterpret_cast<void*>(fibre_main);
    fibre.context.stack = top;
#endif
}

std::uint64_t draw(Block& from) {
    from.random ^= from.random << 13;
    from.random ^= from.random >> 7;
    from.random ^= from.random << 17;
    return from.random;
}

unsigned int pick(std::uint32_t ready) {
    switch (block->order) {
        case Order::Ascending: return static_cast<unsigned int>(__builtin_ctz(ready));
        case Order::Descending: return 31 - static_cast<unsigned int>(__builtin_clz(ready));
        default: break;
    }
    for (std::uint64_t skip = draw(*block) % static_cast<unsigned int>(__builtin_popcount(ready)); skip > 0; --skip) {
        ready &= ready - 1;
    }
    return static_cast<unsigned int>(__builtin_ctz(ready));
}

// Runs what can run of one warp; all of it, or one fibre once where the order is shuffled.
bool run_warp(unsigned int index) {
    Warp& warp = block->warps[index];
    bool has_run = false;
    while (warp.ready != 0) {
        const unsigned int lane = pick(warp.ready);
        warp.ready &= ~(1u << lane);
        enter_fibre(index * WARP + lane);
        has_run = true;
        if (block->order == Order::Shuffled) {
            break;
        }
    }
    return has_run;
}

bool run_warps() {
    bool has_run = false;
    const unsigned int first = block->order == Order::Shuffled ? static_cast<unsigned int>(draw(*block) % block->warp_count) : 0;
    for (unsigned int i = 0; i < block->warp_count; ++i) {
        const unsigned int index =
            block->order == Order::Descending ? block->warp_count - 1 - i : (first + i) % block->warp_count;
        has_run |= run_warp(index);
    }
    return has_run;
}

void release_block() {
    block->any_before = block->any;
    block->any = false;
    block->waiting = 0;
    for (unsigned int i = 0; i < block->warp_count; ++i) {
        block->warps[i].ready = block->warps[i].all;
    }
}

const char* run_block() {
    block->waiting = 0;
    block->ended = 0;
    block->any = false;
    block->problem = nullptr;
    for (unsigned int i = 0; i < block->warp_count; ++i) {
        Warp& warp = block->warps[i];
        const unsigned int rest = block->threads - i * WARP;
        warp.all = rest >= WARP ? ~0u : (1u << rest) - 1;
        warp.ready = warp.all;
        warp.ended = 0;
        warp.waiting = 0;
    }
    for (unsigned int thread = 0; thread < block->threads; ++thread) {
        prepare_fibre(thread);
    }
    while (block->ended < block->threads) {
        const bool has_run = run_warps();
        if (block->problem != nullptr) {
            return block->problem;
        }
        if (block->waiting == block->threads) {
            release_block();
        } else if (!has_run) {
            return block->ended == 0 ? "threads of a block wait for each other at different places"
                                     : "threads of a block wait for others that have ended";
        }
    }
    return nullptr;
}

std::uint64_t common_divisor(std::uint64_t a, std::uint64_t b) {
    while (b != 0) {
        const std::uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

}  // namespace

bool wait_for_block(bool value) {
    block->any |= value;
    ++block->waiting;
    enter_scheduler();
    return block->any_before;
}

unsigned int lane() {
    return block->current % WARP;
}

Exchange exchange(unsigned int mask, unsigned long long value) {
    const unsigned int thread = block->current;
    Warp& warp = block->warps[thread / WARP];
    const std::uint32_t bit = 1u << (thread % WARP);
    const unsigned int parity = block->fibres[thread].parity ^= 1;
    if (mask != ~0u) {
        block->problem = "lanes are exchanged by a part of a warp, which this emulation does not know";
    }
    warp.values[parity][thread % WARP] = value;
    warp.waiting |= bit;
    if (warp.waiting == warp.all) {
        warp.waiting = 0;
        warp.ready |= warp.all & ~bit;
    } else {
        enter_scheduler();
    }
    return {warp.values[parity], static_cast<unsigned int>(__builtin_popcount(warp.all))};
}

const char* run_grid(Index grid, Index dim, void (*kernel)(void* const*), void* const* params, Order order, std::uint64_t seed) {
    const std::uint64_t threads = static_cast<std::uint64_t>(dim.x) * dim.y * dim.z;
    const std::uint64_t blocks = static_cast<std::uint64_t>(grid.x) * grid.y * grid.z;
    if (dim.x == 0 || dim.y == 0 || dim.z == 0 || dim.x > MAX_THREADS || dim.y > MAX_THREADS || dim.z > MAX_THREADS ||
        threads > MAX_THREADS) {
        return "a block has 1 to 1024 threads";
    }
    if (blocks == 0 || grid.x > 0x7fffffffu || grid.y > 0xffffu || grid.z > 0xffffu) {
        return "a grid has at least one block, and at most 2147483647, 65535 and 65535 of them in its directions";
    }
    if (block != nullptr) {
        return "a kernel launches another, which this emulation does not know";
    }
    block = own_block();
    if (block == nullptr) {
        return "there is no memory for the stacks of a block";
    }
    block->threads = static_cast<unsigned int>(threads);
    block->warp_count = (block->threads + WARP - 1) / WARP;
    block->kernel = kernel;
    block->params = params;
    block->order = order;
    block->random = seed * 2 + 1;
    here.block_dim = dim;
    here.grid_dim = grid;
    // Blocks in an order of their own: each once, as the step has no divisor in common with their number.
    std::uint64_t step = order == Order::Shuffled ? draw(*block) % blocks + 1 : 1;
    while (common_divisor(step, blocks) != 1) {
        ++step;
    }
    const char* problem = nullptr;
    std::uint64_t at = order == Order::Descending ? blocks - 1 : 0;
    for (std::uint64_t i = 0; i < blocks && problem == nullptr; ++i) {
        here.block = {static_cast<unsigned int>(at % grid.x), static_cast<unsigned int>(at / grid.x % grid.y),
                      static_cast<unsigned int>(at / grid.x / grid.y)};
        problem = run_block();
        at = order == Order::Descending ? at - 1 : (at + step) % blocks;
    }
    block = nullptr;
    return problem;
}

}  // namespace emulator
