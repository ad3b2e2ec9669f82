// What the kernels use of CUDA C++, for a C++ compiler: each thread of a block is a fibre, see fibres.hpp.
#pragma once

#include "fibres.hpp"

#define __global__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
// Blocks run one after another on the thread that launches, so what a block shares is that thread's.
#define __shared__ static thread_local

#define threadIdx (emulator::here.thread)
#define blockIdx (emulator::here.block)
#define blockDim (emulator::here.block_dim)
#define gridDim (emulator::here.grid_dim)

struct alignas(8) uint2 {
    unsigned int x, y;
};
struct alignas(16) uint4 {
    unsigned int x, y, z, w;
};
static inline uint4 make_uint4(unsigned int x, unsigned int y, unsigned int z, unsigned int w) {
    return {x, y, z, w};
}

template <class T>
static inline T min(T a, T b) {
    return b < a ? b : a;
}
template <class T>
static inline T max(T a, T b) {
    return a < b ? b : a;
}

// Bits.
static inline unsigned int __funnelshift_r(unsigned int low, unsigned int high, unsigned int shift) {
    return static_cast<unsigned int>((static_cast<unsigned long long>(high) << 32 | low) >> (shift & 31));
}
static inline unsigned int __byte_perm(unsigned int low, unsigned int high, unsigned int selector) {
    const unsigned long long bytes = static_cast<unsigned long long>(high) << 32 | low;
    unsigned int out = 0;
    for (int i = 0; i < 4; ++i) {
        out |= static_cast<unsigned int>((bytes >> (8 * ((selector >> (4 * i)) & 7))) & 0xff) << (8 * i);
    }
    return out;
}
static inline int __ffs(int bits) {
    return __builtin_ffs(bits);
}
static inline int __clz(int bits) {
    return bits == 0 ? 32 : __builtin_clz(static_cast<unsigned int>(bits));
}
template <class To, class From>
static inline To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From), "same length");
    To to;
    __builtin_memcpy(&to, &from, sizeof(To));
    return to;
}
static inline float __uint_as_float(unsigned int bits) {
    return bits_as<float>(bits);
}
static inline unsigned int __float_as_uint(float value) {
    return bits_as<unsigned int>(value);
}
static inline double __longlong_as_double(long long bits) {
    return bits_as<double>(bits);
}
static inline long long __double_as_longlong(double value) {
    return bits_as<long long>(value);
}

// Floats. Not fused because the build says -ffp-contract=off, and rounded to nearest because that is the default of the processor.
static inline float __fadd_rn(float a, float b) {
    return a + b;
}
static inline float __fmul_rn(float a, float b) {
    return a * b;
}
static inline double __dadd_rn(double a, double b) {
    return a + b;
}
static inline double __dmul_rn(double a, double b) {
    return a * b;
}

// Atomics: real ones, as two launches may run at the same time.
template <class T, class Choose>
static inline T atomic_update(T* at, Choose choose) {
    T old = __atomic_load_n(at, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(at, &old, choose(old), true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return old;
}
template <class T>
static inline T atomicMin(T* at, T value) {
    return atomic_update(at, [=](T old) { return min(old, value); });
}
template <class T>
static inline T atomicMax(T* at, T value) {
    return atomic_update(at, [=](T old) { return max(old, value); });
}
template <class T>
static inline T atomicOr(T* at, T value) {
    return __atomic_fetch_or(at, value, __ATOMIC_RELAXED);
}
template <class T>
static inline T atomicAdd(T* at, T value) {
    return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}

// Threads that wait for each other.
static inline void __syncthreads() {
    emulator::wait_for_block(false);
}
static inline int __syncthreads_or(int predicate) {
    return emulator::wait_for_block(predicate != 0);
}
static inline int __any_sync(unsigned int mask, int predicate) {
    const emulator::Exchange all = emulator::exchange(mask, predicate != 0);
    for (unsigned int lane = 0; lane < all.lanes; ++lane) {
        if (all.values[lane] != 0) {
            return 1;
        }
    }
    return 0;
}
template <class T>
static inline T value_of_lane(unsigned int mask, T value, int lane) {
    const emulator::Exchange all = emulator::exchange(mask, static_cast<unsigned long long>(value));
    const bool is_there = lane >= 0 && static_cast<unsigned int>(lane) < all.lanes;
    return is_there ? static_cast<T>(all.values[lane]) : value;
}
template <class T>
static inline T __shfl_up_sync(unsigned int mask, T value, unsigned int distance) {
    return value_of_lane(mask, value, static_cast<int>(emulator::lane()) - static_cast<int>(distance));
}
template <class T>
static inline T __shfl_down_sync(unsigned int mask, T value, unsigned int distance) {
    return value_of_lane(mask, value, static_cast<int>(emulator::lane() + distance));
}
template <class T>
static inline T __shfl_xor_sync(unsigned int mask, T value, unsigned int distance) {
    return value_of_lane(mask, value, static_cast<int>(emulator::lane() ^ distance));
}
