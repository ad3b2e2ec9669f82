// Output that is written where it differs, and the report of the first and the last byte that did.
#pragma once
#include "common.cuh"

constexpr u32 CHANGED_THREADS = 256;

// What one thread has seen; it starts from `NOTHING_SEEN`.
struct Seen {
    u64 first;
    u64 last;

    __device__ __forceinline__ bool is_something() const { return first != ~0ull; }
    __device__ __forceinline__ void add(u64 from, u64 to) {
        first = min(first, from);
        last = max(last, to);
    }
};

constexpr Seen NOTHING_SEEN = {~0ull, 0};

static __device__ __forceinline__ u32 first_byte(u32 bits) {
    return static_cast<u32>(__ffs(static_cast<int>(bits)) - 1) / 8;
}

static __device__ __forceinline__ u32 last_byte(u32 bits) {
    return static_cast<u32>(31 - __clz(static_cast<int>(bits))) / 8;
}

// Writes the unit at `to`, a multiple of 16, if it differs from `old`, which is there; `position` is that of its first byte in the
// output.
static __device__ __forceinline__ void write_changed(u8* to, uint4 unit, uint4 old, u64 position, Seen& seen) {
    const u32 bits[4] = {unit.x ^ old.x, unit.y ^ old.y, unit.z ^ old.z, unit.w ^ old.w};
    if ((bits[0] | bits[1] | bits[2] | bits[3]) == 0) {
        return;
    }
    *reinterpret_cast<uint4*>(to) = unit;
    const u32 first = bits[0]   ? first_byte(bits[0])
                      : bits[1] ? 4 + first_byte(bits[1])
                      : bits[2] ? 8 + first_byte(bits[2])
                                : 12 + first_byte(bits[3]);
    const u32 last = bits[3]   ? 12 + last_byte(bits[3])
                     : bits[2] ? 8 + last_byte(bits[2])
                     : bits[1] ? 4 + last_byte(bits[1])
                               : last_byte(bits[0]);
    seen.add(position + first, position + last);
}

// The same for the lowest `count` bytes of `value` at any address, one by one.
static __device__ __forceinline__ void write_changed_bytes(u8* to, u64 value, u32 count, u64 position, Seen& seen) {
#pragma unroll 1
    for (u32 i = 0; i < count; ++i) {
        const u8 byte = static_cast<u8>(value >> (8 * i));
        if (to[i] != byte) {
            to[i] = byte;
            seen.add(position + i, position + i);
        }
    }
}

// An output of which the whole units at multiples of 16 are written as such, and the edges byte by byte. Where whole units cannot be
// used, all of it is edge.
struct Edges {
    u64 head_bytes;
    u64 unit_count;
    u64 tail_bytes;

    static __device__ __forceinline__ Edges of(const u8* output, u64 len_bytes, bool has_units) {
        const u64 head = min(has_units ? static_cast<u64>((UNIT_BYTES - low_bits(output, 15)) & 15) : len_bytes, len_bytes);
        const u64 count = (len_bytes - head) / UNIT_BYTES;
        return {head, count, len_bytes - head - count * UNIT_BYTES};
    }
    __device__ __forceinline__ u64 bytes() const { return head_bytes + tail_bytes; }
    // Where byte `position` of the edges lies, counted from the start of the output.
    __device__ __forceinline__ u64 place(u64 position) const {
        return position < head_bytes ? position : position + unit_count * UNIT_BYTES;
    }
};

// Adds what the threads of a block have seen to `changed`. All threads call it, once.
static __device__ __forceinline__ void report(Seen seen, Changed* changed) {
    __shared__ Seen warps[CHANGED_THREADS / WARP_THREADS];
    const u32 lane = threadIdx.x % WARP_THREADS;
    const u32 warp = threadIdx.x / WARP_THREADS;
    if (!__syncthreads_or(seen.is_something())) {
        return;
    }
    if (__any_sync(ALL_LANES, seen.is_something())) {
#pragma unroll 1
        for (u32 distance = WARP_THREADS / 2; distance > 0; distance /= 2) {
            const u64 first = __shfl_down_sync(ALL_LANES, seen.first, distance);
            const u64 last = __shfl_down_sync(ALL_LANES, seen.last, distance);
            // Beyond the last lane a thread gets its own again, which changes nothing.
            seen.add(first, last);
        }
    }
    if (lane == 0) {
        warps[warp] = seen;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
#pragma unroll 1
        for (u32 other = 1; other < CHANGED_THREADS / WARP_THREADS; ++other) {
            seen.add(warps[other].first, warps[other].last);
        }
        atomicMin(&changed->first, seen.first);
        atomicMax(&changed->last, seen.last);
    }
}
