// Runs of bytes, written to their tiles.
//
// Owner computes: one block of threads writes all runs of a tile, in the order of the table, so that the last writer of a byte wins
// whatever the device does otherwise. Runs that do not overlap can be written at once; whether they do is seen first. They are then
// cut into units of 16 bytes, and the threads take the units one after another however long the runs are: 32 runs of 128 bytes keep
// as many threads busy as one of 4096.
#include "common.cuh"

constexpr u32 APPLY_THREADS = 128;
constexpr u32 TILE_BYTES = 4096;

// `Tile` and `TileRun` in engine/src/device/layout.rs.
struct alignas(16) Tile {
    u64 to;
    u32 first_run;
    u32 run_count;
};
struct alignas(8) TileRun {
    u32 from;
    u16 at;
    u16 last;
};

// What a table can be refused for; `ApplyFault` in engine/src/device/kernels.rs.
constexpr u32 FAULT_RUNS = 1;     // a tile's runs are not all in the table
constexpr u32 FAULT_TILE = 2;     // a run reaches beyond its tile
constexpr u32 FAULT_PAYLOAD = 3;  // a run's bytes reach beyond the payload
constexpr u32 FAULT_MEMORY = 4;   // a run's place reaches beyond the memory
constexpr u32 FAULT_ALIGNMENT = 5;  // a tile does not begin at a multiple of its length

struct ApplyBounds {
    u64 payload_len_bytes;
    u64 memory_len_bytes;
};

static __device__ __forceinline__ u32 tile_fault(const Tile& tile, u32 run_count) {
    if (tile.first_run > run_count || run_count - tile.first_run < tile.run_count) {
        return FAULT_RUNS;
    }
    return (tile.to & (TILE_BYTES - 1)) != 0 ? FAULT_ALIGNMENT : 0;
}

static __device__ __forceinline__ u32 run_fault(const Tile& tile, const TileRun& run, const ApplyBounds& bounds) {
    const u32 end = static_cast<u32>(run.at) + run.last + 1;
    if (end > TILE_BYTES) {
        return FAULT_TILE;
    }
    if (static_cast<u64>(run.from) + run.last + 1 > bounds.payload_len_bytes) {
        return FAULT_PAYLOAD;
    }
    return tile.to > bounds.memory_len_bytes || bounds.memory_len_bytes - tile.to < end ? FAULT_MEMORY : 0;
}

static __device__ __forceinline__ u32 first_unit(const TileRun& run) {
    return run.at / UNIT_BYTES;
}

static __device__ __forceinline__ u32 last_unit(const TileRun& run) {
    return (static_cast<u32>(run.at) + run.last) / UNIT_BYTES;
}

// Writes what of `run` lies in unit `unit` of the tile at `to`.
static __device__ __forceinline__ void write_unit(u8* to, const u8* payload, const TileRun& run, u32 unit) {
    const u32 start = unit * UNIT_BYTES;
    const u32 end = static_cast<u32>(run.at) + run.last + 1;
    const u32 low = run.at > start ? run.at - start : 0;
    const u32 high = min(end - start, UNIT_BYTES);
    // The sum first: the byte at the start of the unit may lie before the payload.
    const u8* from = payload + (static_cast<i64>(run.from) + start - run.at);
    store_part(to + start, load_part(from, low, high), low, high);
}

// Writes one run with all threads of the block.
static __device__ __forceinline__ void write_run(u8* to, const u8* payload, const TileRun& run) {
    const u32 first = first_unit(run);
    const u32 last = last_unit(run);
    const u32 end = static_cast<u32>(run.at) + run.last + 1;
    const u32 a = first + threadIdx.x;
    const u32 b = a + APPLY_THREADS;
    // A tile is two units a thread. Both are read before one is written, so that both reads are under way at once.
    const bool are_whole = run.at <= a * UNIT_BYTES && (b + 1) * UNIT_BYTES <= end;
    if (are_whole) {
        const u8* from = payload + run.from - run.at;
        const uint4 unit_a = load_unit(from + a * UNIT_BYTES);
        const uint4 unit_b = load_unit(from + b * UNIT_BYTES);
        *reinterpret_cast<uint4*>(to + a * UNIT_BYTES) = unit_a;
        *reinterpret_cast<uint4*>(to + b * UNIT_BYTES) = unit_b;
        return;
    }
    if (a <= last) {
        write_unit(to, payload, run, a);
    }
    if (b <= last) {
        write_unit(to, payload, run, b);
    }
}

// Up to one run a thread, looked at together.
struct Round {
    TileRun runs[APPLY_THREADS];
    // How many units the runs up to and with this one have; a run that was refused has none.
    u32 ends[APPLY_THREADS];
    u32 warp_units[APPLY_THREADS / WARP_THREADS];
    // One bit for each byte of the tile.
    u32 marks[TILE_BYTES / 32];
};
static_assert(TILE_BYTES / 32 == APPLY_THREADS, "one thread clears one word of the marks");
static_assert(TILE_BYTES / UNIT_BYTES == 2 * APPLY_THREADS, "a thread writes two units of a whole tile");

// Marks the bytes of a run; whether one of them was marked already.
static __device__ __forceinline__ bool mark(u32* marks, const TileRun& run) {
    const u32 begin = run.at;
    const u32 last = begin + run.last;
    u32 before = 0;
#pragma unroll 1
    for (u32 word = begin / 32; word <= last / 32; ++word) {
        u32 bits = ALL_LANES;
        if (word == begin / 32) {
            bits &= ALL_LANES << (begin % 32);
        }
        if (word == last / 32) {
            bits &= ALL_LANES >> (31 - last % 32);
        }
        before |= atomicOr(&marks[word], bits) & bits;
    }
    return before != 0;
}

// The sum of `units` over the threads up to this one, in all warps that have runs.
static __device__ __forceinline__ u32 sum_up_to(u32* warp_units, u32 units, u32 count) {
    const u32 lane = threadIdx.x % WARP_THREADS;
    const u32 warp = threadIdx.x / WARP_THREADS;
    u32 sum = units;
    if (warp * WARP_THREADS < count) {
        for (u32 distance = 1; distance < WARP_THREADS; distance *= 2) {
            const u32 other = __shfl_up_sync(ALL_LANES, sum, distance);
            sum += lane >= distance ? other : 0;
        }
    }
    if (lane == WARP_THREADS - 1) {
        warp_units[warp] = sum;
    }
    __syncthreads();
    for (u32 earlier = 0; earlier < warp; ++earlier) {
        sum += warp_units[earlier];
    }
    return sum;
}

// Writes the units of runs that do not overlap, one unit a thread, and another.
static __device__ __forceinline__ void write_together(const Round& round, u32 count, u8* to, const u8* payload) {
    const u32 total = round.ends[count - 1];
#pragma unroll 1
    for (u32 position = threadIdx.x; position < total; position += APPLY_THREADS) {
        // The first run whose units end after this position.
        u32 low = 0;
        u32 high = count - 1;
        while (low < high) {
            const u32 middle = (low + high) / 2;
            if (round.ends[middle] > position) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        const TileRun run = round.runs[low];
        write_unit(to, payload, run, last_unit(run) + 1 - (round.ends[low] - position));
    }
}

static __device__ __forceinline__ void write_in_order(const Round& round, u32 count, u8* to, const u8* payload) {
#pragma unroll 1
    for (u32 position = 0; position < count; ++position) {
        const bool is_refused = round.ends[position] == (position == 0 ? 0 : round.ends[position - 1]);
        if (!is_refused) {
            write_run(to, payload, round.runs[position]);
        }
        __syncthreads();
    }
}

// Writes the `count` runs at `runs`, at most one a thread.
static __device__ __forceinline__ void apply_round(Round& round, const Tile& tile, u8* to, const TileRun* runs, u32 count,
                                                   const u8* payload, const ApplyBounds& bounds, u32* fault) {
    const u32 me = threadIdx.x;
    // Whatever was read and written for the runs before is done.
    __syncthreads();
    TileRun run = {0, 0, 0};
    u32 units = 0;
    if (me < count) {
        run = runs[me];
        const u32 code = run_fault(tile, run, bounds);
        if (code == 0) {
            units = last_unit(run) - first_unit(run) + 1;
        } else {
            atomicMax(fault, code);
        }
    }
    round.runs[me] = run;
    round.marks[me] = 0;
    round.ends[me] = sum_up_to(round.warp_units, units, count);
    // `sum_up_to` waited for all, so the neighbour's run is there.
    bool is_behind = true;
    if (me > 0 && me < count) {
        const TileRun before = round.runs[me - 1];
        is_behind = static_cast<u32>(before.at) + before.last < run.at;
    }
    // Runs in the order of their places, the common case, need no marks. One that was refused is looked at closely.
    const bool is_plain = me >= count || (is_behind && units != 0);
    if (__syncthreads_or(!is_plain)) {
        const bool overlaps = units != 0 && mark(round.marks, run);
        if (__syncthreads_or(overlaps)) {
            write_in_order(round, count, to, payload);
            return;
        }
    }
    write_together(round, count, to, payload);
}

// Writes the runs of each tile: one block a tile, and the tile that is as many further as there are blocks.
//
// No two tiles are the same, and neither tables nor payload lie in a tile. A run or tile that contradicts the lengths given is left
// out, and the greatest of the codes for what was found wrong is left in `fault`, which the caller set to 0.
extern "C" __global__ void __launch_bounds__(APPLY_THREADS, 12)
    mmsb_apply(u8* __restrict__ memory, const Tile* __restrict__ tiles, u32 tile_count, const TileRun* __restrict__ runs,
               u32 run_count, const u8* __restrict__ payload, u64 payload_len_bytes, u64 memory_len_bytes,
               u32* __restrict__ fault) {
    __shared__ Round round;
    const ApplyBounds bounds = {payload_len_bytes, memory_len_bytes};
#pragma unroll 1
    for (u64 position = blockIdx.x; position < tile_count; position += gridDim.x) {
        const Tile tile = tiles[position];
        u8* to = memory + tile.to;
        u32 code = tile_fault(tile, run_count);
        if (code == 0 && tile.run_count == 1) {
            const TileRun run = runs[tile.first_run];
            code = run_fault(tile, run, bounds);
            if (code == 0) {
                write_run(to, payload, run);
            }
        } else if (code == 0) {
#pragma unroll 1
            for (u32 done = 0; done < tile.run_count; done += APPLY_THREADS) {
                apply_round(round, tile, to, runs + tile.first_run + done, min(tile.run_count - done, APPLY_THREADS), payload,
                            bounds, fault);
            }
        }
        if (code != 0 && threadIdx.x == 0) {
            atomicMax(fault, code);
        }
    }
}
