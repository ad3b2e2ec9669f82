// The sum that tells whether a copy arrived: `sum64` in engine/src/device/layout.rs.
#include "common.cuh"

constexpr u32 SUM_THREADS = 256;

static __device__ __forceinline__ u64 sum_term(u64 position, u32 low, u32 high) {
    return ((static_cast<u64>(high) << 32 | low) + 1) * (2 * position + 1);
}

// Adds the sum of `len_bytes` bytes to `sum`, which the caller set to 0.
extern "C" __global__ void __launch_bounds__(SUM_THREADS) mmsb_sum(const u8* __restrict__ from, u64 len_bytes, u64* sum) {
    __shared__ u64 warps[SUM_THREADS / WARP_THREADS];
    const Units units = {len_bytes, 0};
    const u64 count = units.count();
    u64 mine = 0;
#pragma unroll 1
    for (u64 unit = grid_thread(); unit < count; unit += grid_threads()) {
        const u32 high = units.high(unit);
        const uint4 words = load_part(from + unit * UNIT_BYTES, 0, high);
        mine += sum_term(2 * unit, words.x, words.y);
        // A word of which there is no byte does not count, not even as a zero.
        if (high > 8) {
            mine += sum_term(2 * unit + 1, words.z, words.w);
        }
    }
#pragma unroll 1
    for (u32 distance = WARP_THREADS / 2; distance > 0; distance /= 2) {
        mine += __shfl_xor_sync(ALL_LANES, mine, distance);
    }
    if (threadIdx.x % WARP_THREADS == 0) {
        warps[threadIdx.x / WARP_THREADS] = mine;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        u64 all = 0;
#pragma unroll 1
        for (u32 warp = 0; warp < SUM_THREADS / WARP_THREADS; ++warp) {
            all += warps[warp];
        }
        atomicAdd(sum, all);
    }
}
