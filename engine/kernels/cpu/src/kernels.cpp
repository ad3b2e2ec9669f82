// The kernels, and how they are found by name and called.
#include <cstring>
#include <utility>

#include "cuda.hpp"

#include "../../mmsb.cu"

namespace {

// Calls a kernel with the arguments that the pointers lead to, as the driver does.
template <class Kernel>
struct Call;
template <class... Arguments>
struct Call<void (*)(Arguments...)> {
    static constexpr std::size_t COUNT = sizeof...(Arguments);
    static constexpr unsigned char LENGTHS[] = {sizeof(Arguments)...};

    template <void (*KERNEL)(Arguments...), std::size_t... I>
    static void with(void* const* params, std::index_sequence<I...>) {
        KERNEL(*static_cast<Arguments*>(params[I])...);
    }
    template <void (*KERNEL)(Arguments...)>
    static void thunk(void* const* params) {
        with<KERNEL>(params, std::make_index_sequence<COUNT>());
    }
};

struct Entry {
    const char* name;
    void (*thunk)(void* const*);
    const unsigned char* lengths;
    std::size_t param_count;
    unsigned int threads;
};

#define ENTRY(name, threads) \
    { #name, Call<decltype(&name)>::thunk<&name>, Call<decltype(&name)>::LENGTHS, Call<decltype(&name)>::COUNT, threads }

constexpr Entry ENTRIES[] = {
    ENTRY(mmsb_apply, APPLY_THREADS),          ENTRY(mmsb_combine, CHANGED_THREADS),     ENTRY(mmsb_move, CHANGED_THREADS),
    ENTRY(mmsb_copy, COPY_THREADS),            ENTRY(mmsb_fill, COPY_THREADS),           ENTRY(mmsb_sum, SUM_THREADS),
    ENTRY(mmsb_digest_chunks, DIGEST_THREADS), ENTRY(mmsb_digest_roots, ROOT_THREADS),
};
constexpr std::size_t ENTRY_COUNT = sizeof(ENTRIES) / sizeof(ENTRIES[0]);

}  // namespace

extern "C" {

std::size_t mmsb_kernels_count() {
    return ENTRY_COUNT;
}

// The name, threads and lengths of arguments of the kernel at a position below the count.
const char* mmsb_kernels_describe(std::size_t index, unsigned int* threads, const unsigned char** lengths, std::size_t* param_count) {
    const Entry& entry = ENTRIES[index];
    *threads = entry.threads;
    *lengths = entry.lengths;
    *param_count = entry.param_count;
    return entry.name;
}

// Runs a kernel; null, or what is wrong.
const char* mmsb_kernels_launch(std::size_t index, const unsigned int* grid, const unsigned int* block, void* const* params,
                                unsigned int order, std::uint64_t seed) {
    const Entry& entry = ENTRIES[index];
    if (static_cast<std::uint64_t>(block[0]) != entry.threads || block[1] != 1 || block[2] != 1) {
        return "the kernel is written for another number of threads in a block";
    }
    return emulator::run_grid({grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, entry.thunk, params,
                              static_cast<emulator::Order>(order), seed);
}
}
