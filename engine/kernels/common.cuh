// What all kernels use: integer types, and 16-byte units of memory at any alignment.
//
// A unit is 16 bytes, the most that one thread moves at once. Memory is written in units at addresses that are multiples of 16 where
// that is possible, and bytes at the edges apart. Sources may lie at any address: they are read in the widest aligned pieces, which
// may hold up to 3 bytes outside of what was asked for, but always in a 4-byte word with a byte that was asked for. So whoever maps
// memory maps it in multiples of 4 bytes, and nothing outside of it is ever touched.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

constexpr u32 UNIT_BYTES = 16;
constexpr u32 WARP_THREADS = 32;
constexpr u32 ALL_LANES = 0xffffffffu;

// Which bytes of an output changed; `Changed` in engine/src/device/layout.rs.
struct Changed {
    u64 first;
    u64 last;
};

static __device__ __forceinline__ u32 low_bits(const void* pointer, u32 mask) {
    return static_cast<u32>(reinterpret_cast<u64>(pointer)) & mask;
}

// Four bytes, little endian, from any address.
static __device__ __forceinline__ u32 load_word(const u8* from) {
    const u32 skew = low_bits(from, 3);
    const u32* words = reinterpret_cast<const u32*>(from - skew);
    const u32 low = words[0];
    return skew == 0 ? low : __funnelshift_r(low, words[1], skew * 8);
}

// 16 bytes from any address.
static __device__ __forceinline__ uint4 load_unit(const u8* from) {
    const u32 skew = low_bits(from, 15);
    if (skew == 0) {
        return *reinterpret_cast<const uint4*>(from);
    }
    if (skew == 8) {
        const uint2* halves = reinterpret_cast<const uint2*>(from);
        const uint2 low = halves[0];
        const uint2 high = halves[1];
        return make_uint4(low.x, low.y, high.x, high.y);
    }
    const u32 shift = (skew & 3) * 8;
    const u32* words = reinterpret_cast<const u32*>(from - (skew & 3));
    const u32 a = words[0];
    const u32 b = words[1];
    const u32 c = words[2];
    const u32 d = words[3];
    if (shift == 0) {
        return make_uint4(a, b, c, d);
    }
    const u32 e = words[4];
    return make_uint4(__funnelshift_r(a, b, shift), __funnelshift_r(b, c, shift), __funnelshift_r(c, d, shift),
                      __funnelshift_r(d, e, shift));
}

// Bytes `low` to `high` of the four at `from`, in their places, and zeros around them.
static __device__ __forceinline__ u32 load_word_part(const u8* from, u32 low, u32 high) {
    if (low == 0 && high == 4) {
        return load_word(from);
    }
    u32 word = 0;
#pragma unroll 1
    for (u32 i = low; i < high; ++i) {
        word |= static_cast<u32>(from[i]) << (8 * i);
    }
    return word;
}

// Where [low, high) of a unit begins or ends in its word that starts at byte `base`.
static __device__ __forceinline__ u32 within_word(u32 position, u32 base) {
    return position <= base ? 0 : min(position - base, 4u);
}

// Bytes `low` to `high` of the 16 at `from`, in their places, and zeros around them.
static __device__ __forceinline__ uint4 load_part(const u8* from, u32 low, u32 high) {
    if (low == 0 && high == UNIT_BYTES) {
        return load_unit(from);
    }
    return make_uint4(load_word_part(from, within_word(low, 0), within_word(high, 0)),
                      load_word_part(from + 4, within_word(low, 4), within_word(high, 4)),
                      load_word_part(from + 8, within_word(low, 8), within_word(high, 8)),
                      load_word_part(from + 12, within_word(low, 12), within_word(high, 12)));
}

// Writes bytes `low` to `high` of `word` to the four at `to`, a multiple of 4.
static __device__ __forceinline__ void store_word_part(u8* to, u32 word, u32 low, u32 high) {
    if (low == 0 && high == 4) {
        *reinterpret_cast<u32*>(to) = word;
        return;
    }
#pragma unroll 1
    for (u32 i = low; i < high; ++i) {
        to[i] = static_cast<u8>(word >> (8 * i));
    }
}

// Writes bytes `low` to `high` of `unit` to the 16 at `to`, a multiple of 16.
static __device__ __forceinline__ void store_part(u8* to, uint4 unit, u32 low, u32 high) {
    if (low == 0 && high == UNIT_BYTES) {
        *reinterpret_cast<uint4*>(to) = unit;
        return;
    }
    store_word_part(to, unit.x, within_word(low, 0), within_word(high, 0));
    store_word_part(to + 4, unit.y, within_word(low, 4), within_word(high, 4));
    store_word_part(to + 8, unit.z, within_word(low, 8), within_word(high, 8));
    store_word_part(to + 12, unit.w, within_word(low, 12), within_word(high, 12));
}

// `len_bytes` bytes cut into units that begin `skew` bytes before the first of them.
struct Units {
    u64 len_bytes;
    u32 skew;

    __device__ __forceinline__ u64 count() const { return (skew + len_bytes + UNIT_BYTES - 1) / UNIT_BYTES; }
    // The first byte of unit `unit` that counts, from its start.
    __device__ __forceinline__ u32 low(u64 unit) const { return unit == 0 ? skew : 0; }
    // The byte after the last one that counts.
    __device__ __forceinline__ u32 high(u64 unit) const {
        const u64 rest = skew + len_bytes - unit * UNIT_BYTES;
        return rest < UNIT_BYTES ? static_cast<u32>(rest) : UNIT_BYTES;
    }
};

static __device__ __forceinline__ u64 grid_thread() {
    return static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
}

static __device__ __forceinline__ u64 grid_threads() {
    return static_cast<u64>(gridDim.x) * blockDim.x;
}
