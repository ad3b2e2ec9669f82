// The threads of a block as fibres on one thread of the processor.
//
// A fibre runs until it waits for others or ends; then the next one runs. Which one that is can be chosen, to see whether a kernel
// that forgot to wait gives the same result in another order. A kernel whose threads do not all come to a barrier is stopped: on a GPU
// it would hang or worse.
#pragma once

#include <cstddef>
#include <cstdint>

namespace emulator {

struct Index {
    unsigned int x, y, z;
};

// What the running fibre sees.
struct Here {
    Index thread, block, block_dim, grid_dim;
};
extern thread_local constinit Here here;

// The values that the lanes of a warp brought.
struct Exchange {
    const unsigned long long* values;
    unsigned int lanes;
};

// Waits until all threads of the block are here; whether one of them brought true.
bool wait_for_block(bool value);
// Waits until all threads of the warp are here. The values stay until this thread's next but one exchange.
Exchange exchange(unsigned int mask, unsigned long long value);
// The position of this thread in its warp.
unsigned int lane();

enum class Order : unsigned int { Ascending = 0, Descending = 1, Shuffled = 2 };

// Runs all blocks of a grid; null, or what is wrong with the kernel.
const char* run_grid(Index grid, Index block, void (*kernel)(void* const*), void* const* params, Order order, std::uint64_t seed);

}  // namespace emulator
