// Bytes copied and filled within device memory.
#include "common.cuh"

constexpr u32 COPY_THREADS = 256;
// Units that a thread reads before it writes the first of them.
constexpr u32 COPY_UNITS = 4;

// Copies `len_bytes` bytes; the ranges do not overlap.
extern "C" __global__ void __launch_bounds__(COPY_THREADS)
    mmsb_copy(const u8* __restrict__ from, u8* __restrict__ to, u64 len_bytes) {
    const Units units = {len_bytes, low_bits(to, 15)};
    const u64 count = units.count();
    const u64 step = static_cast<u64>(gridDim.x) * COPY_THREADS * COPY_UNITS;
    u8* to_units = to - units.skew;
    const u8* from_units = from - units.skew;
    const bool is_congruent = low_bits(from_units, 15) == 0;
#pragma unroll 1
    for (u64 unit = static_cast<u64>(blockIdx.x) * COPY_THREADS * COPY_UNITS + threadIdx.x; unit < count; unit += step) {
        const u64 last = unit + (COPY_UNITS - 1) * COPY_THREADS;
        // All but the first and the last unit are whole.
        if (is_congruent && unit > 0 && last + 1 < count) {
            const uint4* read_from = reinterpret_cast<const uint4*>(from_units) + unit;
            uint4* write_to = reinterpret_cast<uint4*>(to_units) + unit;
            uint4 read[COPY_UNITS];
#pragma unroll
            for (u32 i = 0; i < COPY_UNITS; ++i) {
                read[i] = read_from[i * COPY_THREADS];
            }
#pragma unroll
            for (u32 i = 0; i < COPY_UNITS; ++i) {
                write_to[i * COPY_THREADS] = read[i];
            }
            continue;
        }
#pragma unroll 1
        for (u64 one = unit; one <= last && one < count; one += COPY_THREADS) {
            const u32 low = units.low(one);
            const u32 high = units.high(one);
            store_part(to_units + one * UNIT_BYTES, load_part(from_units + one * UNIT_BYTES, low, high), low, high);
        }
    }
}

// Sets `len_bytes` bytes to the lowest byte of `byte`.
extern "C" __global__ void __launch_bounds__(COPY_THREADS) mmsb_fill(u8* __restrict__ to, u64 len_bytes, u32 byte) {
    const Units units = {len_bytes, low_bits(to, 15)};
    const u64 count = units.count();
    const u32 word = (byte & 0xff) * 0x01010101u;
    const uint4 unit = make_uint4(word, word, word, word);
#pragma unroll 1
    for (u64 one = grid_thread(); one < count; one += grid_threads()) {
        store_part(to - units.skew + one * UNIT_BYTES, unit, units.low(one), units.high(one));
    }
}
