// Derived pages: parents combined lane by lane, and parts of pages moved.
//
// The same bits as engine/src/graph/elementwise.rs and semiring.rs give: operands in the order of the parents, no fused operations,
// IEEE 754-2019 minimum and maximum, one NaN.
#include "changed.cuh"

// The codes of engine/src/graph.
constexpr u32 PLUS_TIMES = 0, MIN_PLUS = 1, MAX_PLUS = 2, OR_AND = 3, XOR_AND = 4;
constexpr u32 LANE_U8 = 0, LANE_U32 = 1, LANE_I64 = 2, LANE_F32 = 3, LANE_F64 = 4;
constexpr u32 FORM_SUM = 0, FORM_PRODUCTS = 1;

// Operations on a lane. Integers wrap, so signed ones are added and multiplied as unsigned ones.
struct LaneU8 {
    typedef u8 Value;
    static __device__ __forceinline__ u8 plus(u8 a, u8 b) { return static_cast<u8>(a + b); }
    static __device__ __forceinline__ u8 times(u8 a, u8 b) { return static_cast<u8>(a * b); }
    static __device__ __forceinline__ bool is_less(u8 a, u8 b) { return a < b; }
};
struct LaneU32 {
    typedef u32 Value;
    static __device__ __forceinline__ u32 plus(u32 a, u32 b) { return a + b; }
    static __device__ __forceinline__ u32 times(u32 a, u32 b) { return a * b; }
    static __device__ __forceinline__ bool is_less(u32 a, u32 b) { return a < b; }
};
struct LaneI64 {
    typedef u64 Value;
    static __device__ __forceinline__ u64 plus(u64 a, u64 b) { return a + b; }
    static __device__ __forceinline__ u64 times(u64 a, u64 b) { return a * b; }
    static __device__ __forceinline__ bool is_less(u64 a, u64 b) { return static_cast<i64>(a) < static_cast<i64>(b); }
};
// Floats are kept as their bits: loading and storing a float value may change a NaN on some processors.
struct LaneF32 {
    typedef u32 Value;
    static __device__ __forceinline__ bool is_nan(u32 a) { return (a & 0x7fffffffu) > 0x7f800000u; }
    static __device__ __forceinline__ u32 one_nan(u32 a) { return is_nan(a) ? 0x7fc00000u : a; }
    static __device__ __forceinline__ float value(u32 a) { return __uint_as_float(a); }
    static __device__ __forceinline__ u32 plus(u32 a, u32 b) { return __float_as_uint(__fadd_rn(value(a), value(b))); }
    static __device__ __forceinline__ u32 times(u32 a, u32 b) { return __float_as_uint(__fmul_rn(value(a), value(b))); }
    static __device__ __forceinline__ bool is_less(u32 a, u32 b) { return value(a) < value(b); }
    static __device__ __forceinline__ bool is_equal(u32 a, u32 b) { return value(a) == value(b); }
    static __device__ __forceinline__ bool is_negative(u32 a) { return (a >> 31) != 0; }
};
struct LaneF64 {
    typedef u64 Value;
    static __device__ __forceinline__ bool is_nan(u64 a) { return (a & 0x7fffffffffffffffull) > 0x7ff0000000000000ull; }
    static __device__ __forceinline__ u64 one_nan(u64 a) { return is_nan(a) ? 0x7ff8000000000000ull : a; }
    static __device__ __forceinline__ double value(u64 a) { return __longlong_as_double(static_cast<i64>(a)); }
    static __device__ __forceinline__ u64 bits(double a) { return static_cast<u64>(__double_as_longlong(a)); }
    static __device__ __forceinline__ u64 plus(u64 a, u64 b) { return bits(__dadd_rn(value(a), value(b))); }
    static __device__ __forceinline__ u64 times(u64 a, u64 b) { return bits(__dmul_rn(value(a), value(b))); }
    static __device__ __forceinline__ bool is_less(u64 a, u64 b) { return value(a) < value(b); }
    static __device__ __forceinline__ bool is_equal(u64 a, u64 b) { return value(a) == value(b); }
    static __device__ __forceinline__ bool is_negative(u64 a) { return (a >> 63) != 0; }
};

// What differs between integers and floats.
template <class L>
struct Integers : L {
    typedef typename L::Value Value;
    static __device__ __forceinline__ Value one_nan(Value a) { return a; }
    static __device__ __forceinline__ Value least(Value a, Value b) { return L::is_less(b, a) ? b : a; }
    static __device__ __forceinline__ Value greatest(Value a, Value b) { return L::is_less(a, b) ? b : a; }
};
template <class L>
struct Floats : L {
    typedef typename L::Value Value;
    static __device__ __forceinline__ Value least(Value a, Value b) {
        const bool is_a = L::is_nan(a) || L::is_less(a, b) || (L::is_equal(a, b) && L::is_negative(a));
        return is_a ? a : b;
    }
    static __device__ __forceinline__ Value greatest(Value a, Value b) {
        const bool is_a = L::is_nan(a) || L::is_less(b, a) || (L::is_equal(a, b) && !L::is_negative(a));
        return is_a ? a : b;
    }
};

template <u32 SEMIRING, class L>
static __device__ __forceinline__ typename L::Value combine(typename L::Value a, typename L::Value b) {
    typedef typename L::Value Value;
    switch (SEMIRING) {
        case PLUS_TIMES: return L::plus(a, b);
        case MIN_PLUS: return L::least(a, b);
        case MAX_PLUS: return L::greatest(a, b);
        case OR_AND: return static_cast<Value>(a | b);
        default: return static_cast<Value>(a ^ b);
    }
}

template <u32 SEMIRING, class L>
static __device__ __forceinline__ typename L::Value pair(typename L::Value a, typename L::Value b) {
    typedef typename L::Value Value;
    switch (SEMIRING) {
        case PLUS_TIMES: return L::times(a, b);
        case MIN_PLUS:
        case MAX_PLUS: return L::plus(a, b);
        default: return static_cast<Value>(a & b);
    }
}

// A unit as lanes.
template <class L>
union LaneUnit {
    static constexpr u32 COUNT = UNIT_BYTES / sizeof(typename L::Value);
    uint4 unit;
    typename L::Value lanes[COUNT];
};

// What a launch of `mmsb_combine` is about.
struct Combination {
    u32 semiring;
    u32 lane;
    u32 form;
    const u64* inputs;
    u32 input_count;
    u8* output;

    __device__ __forceinline__ bool is_known() const {
        const bool is_on_bits = semiring == OR_AND || semiring == XOR_AND;
        return semiring <= XOR_AND && lane <= (is_on_bits ? LANE_I64 : LANE_F64) && form <= FORM_PRODUCTS && input_count != 0 &&
               (form == FORM_SUM || input_count % 2 == 0);
    }
    __device__ __forceinline__ u32 lane_bytes() const {
        return lane == LANE_U8 ? 1 : lane == LANE_U32 || lane == LANE_F32 ? 4 : 8;
    }
    __device__ __forceinline__ const u8* input(u32 parent) const { return reinterpret_cast<const u8*>(inputs[parent]); }
    // Whether units at multiples of 16 are that in all pages, and hold whole lanes.
    __device__ __forceinline__ bool has_units() const {
        const u32 skew = low_bits(output, 15);
        bool is_congruent = skew % lane_bytes() == 0;
        for (u32 parent = 0; parent < input_count; ++parent) {
            is_congruent &= low_bits(input(parent), 15) == skew;
        }
        return is_congruent;
    }
};

// Whole units, the fast path: each combination is a loop of its own.
template <u32 SEMIRING, class L, u32 FORM>
static __device__ __forceinline__ Seen combine_units(const Combination& what, u64 first, u64 count) {
    Seen seen = NOTHING_SEEN;
#pragma unroll 1
    for (u64 unit = grid_thread(); unit < count; unit += grid_threads()) {
        const u64 offset = first + unit * UNIT_BYTES;
        const auto load = [&](u32 parent) { return *reinterpret_cast<const uint4*>(what.input(parent) + offset); };
        const uint4 old = *reinterpret_cast<const uint4*>(what.output + offset);
        LaneUnit<L> sum, a, b;
        sum.unit = load(0);
        if (FORM == FORM_PRODUCTS) {
            b.unit = load(1);
#pragma unroll
            for (u32 i = 0; i < LaneUnit<L>::COUNT; ++i) {
                sum.lanes[i] = pair<SEMIRING, L>(sum.lanes[i], b.lanes[i]);
            }
        }
#pragma unroll 1
        for (u32 parent = 1 + FORM; parent < what.input_count; parent += 1 + FORM) {
            a.unit = load(parent);
            if (FORM == FORM_PRODUCTS) {
                b.unit = load(parent + 1);
            }
#pragma unroll
            for (u32 i = 0; i < LaneUnit<L>::COUNT; ++i) {
                const typename L::Value term = FORM == FORM_PRODUCTS ? pair<SEMIRING, L>(a.lanes[i], b.lanes[i]) : a.lanes[i];
                sum.lanes[i] = combine<SEMIRING, L>(sum.lanes[i], term);
            }
        }
#pragma unroll
        for (u32 i = 0; i < LaneUnit<L>::COUNT; ++i) {
            sum.lanes[i] = L::one_nan(sum.lanes[i]);
        }
        write_changed(what.output + offset, sum.unit, old, offset, seen);
    }
    return seen;
}

template <u32 SEMIRING, class L>
static __device__ __forceinline__ Seen combine_units_of(const Combination& what, u64 first, u64 count) {
    return what.form == FORM_SUM ? combine_units<SEMIRING, L, FORM_SUM>(what, first, count)
                                 : combine_units<SEMIRING, L, FORM_PRODUCTS>(what, first, count);
}

template <class L>
static __device__ __forceinline__ Seen combine_numbers(const Combination& what, u64 first, u64 count) {
    switch (what.semiring) {
        case PLUS_TIMES: return combine_units_of<PLUS_TIMES, L>(what, first, count);
        case MIN_PLUS: return combine_units_of<MIN_PLUS, L>(what, first, count);
        default: return combine_units_of<MAX_PLUS, L>(what, first, count);
    }
}

static __device__ __forceinline__ Seen combine_all_units(const Combination& what, u64 first, u64 count) {
    // Bits are bits, whatever the lane.
    if (what.semiring == OR_AND) {
        return combine_units_of<OR_AND, Integers<LaneU32>>(what, first, count);
    }
    if (what.semiring == XOR_AND) {
        return combine_units_of<XOR_AND, Integers<LaneU32>>(what, first, count);
    }
    switch (what.lane) {
        case LANE_U8: return combine_numbers<Integers<LaneU8>>(what, first, count);
        case LANE_U32: return combine_numbers<Integers<LaneU32>>(what, first, count);
        case LANE_I64: return combine_numbers<Integers<LaneI64>>(what, first, count);
        case LANE_F32: return combine_numbers<Floats<LaneF32>>(what, first, count);
        default: return combine_numbers<Floats<LaneF64>>(what, first, count);
    }
}

// One lane, with the operation chosen when it runs. It costs a few branches, which edges can afford, and so can pages that lie askew
// to each other; a loop for each combination would be most of the module, and be compiled at every first start.
template <class L>
static __device__ __forceinline__ u64 operate_on(u32 semiring, bool is_pair, u64 wide_a, u64 wide_b) {
    const typename L::Value a = static_cast<typename L::Value>(wide_a);
    const typename L::Value b = static_cast<typename L::Value>(wide_b);
    switch (semiring) {
        case PLUS_TIMES: return is_pair ? L::times(a, b) : L::plus(a, b);
        case MIN_PLUS: return is_pair ? L::plus(a, b) : L::least(a, b);
        case MAX_PLUS: return is_pair ? L::plus(a, b) : L::greatest(a, b);
        case OR_AND: return is_pair ? a & b : a | b;
        default: return is_pair ? a & b : a ^ b;
    }
}

static __device__ __forceinline__ u64 operate(const Combination& what, bool is_pair, u64 a, u64 b) {
    switch (what.lane) {
        case LANE_U8: return operate_on<Integers<LaneU8>>(what.semiring, is_pair, a, b);
        case LANE_U32: return operate_on<Integers<LaneU32>>(what.semiring, is_pair, a, b);
        case LANE_I64: return operate_on<Integers<LaneI64>>(what.semiring, is_pair, a, b);
        case LANE_F32: return operate_on<Floats<LaneF32>>(what.semiring, is_pair, a, b);
        default: return operate_on<Floats<LaneF64>>(what.semiring, is_pair, a, b);
    }
}

static __device__ __forceinline__ u64 load_lane(const u8* from, u32 len_bytes) {
    u64 value = 0;
#pragma unroll 1
    for (u32 i = 0; i < len_bytes; ++i) {
        value |= static_cast<u64>(from[i]) << (8 * i);
    }
    return value;
}

static __device__ __forceinline__ u64 combined_lane(const Combination& what, u64 offset) {
    const u32 len_bytes = what.lane_bytes();
    u64 sum = 0;
    u64 left = 0;
#pragma unroll 1
    for (u32 parent = 0; parent < what.input_count; ++parent) {
        const u64 value = load_lane(what.input(parent) + offset, len_bytes);
        // The operations that this parent is an operand of: none, the pair, the sum, or the pair and then the sum.
        const bool is_left = what.form == FORM_PRODUCTS && parent % 2 == 0;
        if (is_left) {
            left = value;
            continue;
        }
        const u64 term = what.form == FORM_PRODUCTS ? operate(what, true, left, value) : value;
        sum = parent <= what.form ? term : operate(what, false, sum, term);
    }
    return what.lane == LANE_F32   ? LaneF32::one_nan(static_cast<u32>(sum))
           : what.lane == LANE_F64 ? LaneF64::one_nan(sum)
                                   : sum;
}

static __device__ __forceinline__ void combine_edges(const Combination& what, u64 first, const Edges& edges, Seen& seen) {
    const u32 len_bytes = what.lane_bytes();
#pragma unroll 1
    for (u64 position = grid_thread() * len_bytes; position < edges.bytes(); position += grid_threads() * len_bytes) {
        const u64 offset = first + edges.place(position);
        write_changed_bytes(what.output + offset, combined_lane(what, offset), len_bytes, offset, seen);
    }
}

// Computes bytes `first` to `first + len_bytes` of the page at `output`, whole lanes, from the pages at the addresses in `inputs`, and
// adds what changed to `changed`, counted from `output`. `code` is semiring, lane and form, one byte each from the lowest. A code that
// means nothing, and a number of inputs that does not go with the form, changes nothing.
extern "C" __global__ void __launch_bounds__(CHANGED_THREADS)
    mmsb_combine(u32 code, const u64* __restrict__ inputs, u32 input_count, u8* output, u64 first, u64 len_bytes,
                 Changed* changed) {
    const Combination what = {code & 0xff, (code >> 8) & 0xff, code >> 16, inputs, input_count, output};
    if (!what.is_known()) {
        return;
    }
    const Edges edges = Edges::of(output + first, len_bytes, what.has_units());
    Seen seen = combine_all_units(what, first + edges.head_bytes, edges.unit_count);
    combine_edges(what, first, edges, seen);
    report(seen, changed);
}

// Copies `len_bytes` bytes over the output at `to` where they differ, and adds what changed to `changed`, counted from `to`. The
// ranges do not overlap.
extern "C" __global__ void __launch_bounds__(CHANGED_THREADS)
    mmsb_move(const u8* __restrict__ from, u8* to, u64 len_bytes, Changed* changed) {
    const Edges edges = Edges::of(to, len_bytes, true);
    Seen seen = NOTHING_SEEN;
#pragma unroll 1
    for (u64 unit = grid_thread(); unit < edges.unit_count; unit += grid_threads()) {
        const u64 offset = edges.head_bytes + unit * UNIT_BYTES;
        write_changed(to + offset, load_unit(from + offset), *reinterpret_cast<const uint4*>(to + offset), offset, seen);
    }
#pragma unroll 1
    for (u64 position = grid_thread(); position < edges.bytes(); position += grid_threads()) {
        const u64 offset = edges.place(position);
        write_changed_bytes(to + offset, from[offset], 1, offset, seen);
    }
    report(seen, changed);
}
