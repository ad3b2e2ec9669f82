// BLAKE3 of ranges: https://github.com/BLAKE3-team/BLAKE3-specs.
//
// BLAKE3 hashes chunks of 1 KiB on their own and joins their chaining values (nodes) in a binary tree, in which the left subtree is
// the largest full one that leaves something for the right. Joining neighbours level by level, where the last of an odd number goes
// up as it is, gives that same tree.
//
// One thread hashes one chunk, which keeps all of its state in registers; a block of threads hashes 128 chunks of one range and joins
// them to one node: a subtree. A second kernel joins the nodes of ranges longer than that. Ranges of up to 16 KiB share blocks, so
// that many small pages fill the threads. The host says who does what: `DigestPlan` in engine/src/device/kernels.rs.
#include "common.cuh"

constexpr u32 DIGEST_THREADS = 128;
constexpr u32 ROOT_THREADS = 256;
constexpr u32 CHUNK_BYTES = 1024;
constexpr u32 BLOCK_BYTES = 64;
constexpr u32 NODE_WORDS = 8;

constexpr u32 CHUNK_START = 1, CHUNK_END = 2, PARENT = 4, ROOT = 8;

// A range of memory. `slot` is the position of its first chunk among the threads of its block if the range shares one, and that of
// its first node in the scratch memory if it has more than one block.
struct alignas(16) DigestRange {
    u64 from;
    u32 last;
    u32 slot;
};
// The work of one block: `chunk_count` chunks of range `range` from `first_chunk` on, or, where `range_count` is not 0, all chunks of
// that many ranges, which are `chunk_count` together.
struct alignas(16) DigestGroup {
    u32 range;
    u32 range_count;
    u32 first_chunk;
    u32 chunk_count;
};

struct Node {
    u32 words[NODE_WORDS];
};

static __device__ __forceinline__ Node first_node() {
    return {{0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au, 0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u}};
}

template <u32 COUNT>
static __device__ __forceinline__ u32 rotate_right(u32 word) {
    // Whole bytes move in one instruction of another kind.
    return COUNT == 16  ? __byte_perm(word, 0, 0x1032)
           : COUNT == 8 ? __byte_perm(word, 0, 0x0321)
                        : __funnelshift_r(word, word, COUNT);
}

static __device__ __forceinline__ void mix(u32& a, u32& b, u32& c, u32& d, u32 x, u32 y) {
    a = a + b + x;
    d = rotate_right<16>(d ^ a);
    c = c + d;
    b = rotate_right<12>(b ^ c);
    a = a + b + y;
    d = rotate_right<8>(d ^ a);
    c = c + d;
    b = rotate_right<7>(b ^ c);
}

// The compression function, cut to the first 8 words of its output, which is all that digests and chaining values need.
static __device__ __forceinline__ void compress(Node& node, u32 (&message)[16], u32 counter, u32 len_bytes, u32 flags) {
    const Node start = first_node();
    u32 s[16] = {node.words[0],  node.words[1],  node.words[2],  node.words[3], node.words[4], node.words[5],
                 node.words[6],  node.words[7],  start.words[0], start.words[1], start.words[2], start.words[3],
                 counter,        0,              len_bytes,      flags};
#pragma unroll
    for (u32 round = 0; round < 7; ++round) {
        mix(s[0], s[4], s[8], s[12], message[0], message[1]);
        mix(s[1], s[5], s[9], s[13], message[2], message[3]);
        mix(s[2], s[6], s[10], s[14], message[4], message[5]);
        mix(s[3], s[7], s[11], s[15], message[6], message[7]);
        mix(s[0], s[5], s[10], s[15], message[8], message[9]);
        mix(s[1], s[6], s[11], s[12], message[10], message[11]);
        mix(s[2], s[7], s[8], s[13], message[12], message[13]);
        mix(s[3], s[4], s[9], s[14], message[14], message[15]);
        // With the loop unrolled this is names, not moves.
        const u32 next[16] = {message[2], message[6],  message[3],  message[10], message[7], message[0],  message[4],  message[13],
                              message[1], message[11], message[12], message[5],  message[9], message[14], message[15], message[8]};
#pragma unroll
        for (u32 i = 0; i < 16; ++i) {
            message[i] = next[i];
        }
    }
#pragma unroll
    for (u32 i = 0; i < NODE_WORDS; ++i) {
        node.words[i] = s[i] ^ s[i + 8];
    }
}

// The node above two.
static __device__ __forceinline__ Node parent_of(const Node& left, const Node& right, u32 flags) {
    u32 message[16];
#pragma unroll
    for (u32 i = 0; i < NODE_WORDS; ++i) {
        message[i] = left.words[i];
        message[i + NODE_WORDS] = right.words[i];
    }
    Node node = first_node();
    compress(node, message, 0, BLOCK_BYTES, PARENT | flags);
    return node;
}

static __device__ __forceinline__ void set_unit(u32 (&message)[16], u32 unit, uint4 words) {
    message[4 * unit] = words.x;
    message[4 * unit + 1] = words.y;
    message[4 * unit + 2] = words.z;
    message[4 * unit + 3] = words.w;
}

// The node of the chunk of `len_bytes` bytes at `from`. `root` is the flag to add in the last block.
static __device__ __forceinline__ Node chunk_node(const u8* from, u32 len_bytes, u32 chunk, u32 root) {
    Node node = first_node();
    u32 flags = CHUNK_START;
#pragma unroll 1
    for (u32 done = 0; done < len_bytes; done += BLOCK_BYTES) {
        const u32 rest = len_bytes - done;
        u32 message[16];
        if (rest >= BLOCK_BYTES) {
#pragma unroll
            for (u32 unit = 0; unit < BLOCK_BYTES / UNIT_BYTES; ++unit) {
                set_unit(message, unit, load_unit(from + done + unit * UNIT_BYTES));
            }
        } else {
#pragma unroll
            for (u32 unit = 0; unit < BLOCK_BYTES / UNIT_BYTES; ++unit) {
                const u32 start = unit * UNIT_BYTES;
                const u32 high = rest <= start ? 0 : min(rest - start, UNIT_BYTES);
                set_unit(message, unit, load_part(from + done + start, 0, high));
            }
        }
        flags |= rest <= BLOCK_BYTES ? CHUNK_END | root : 0;
        compress(node, message, chunk, min(rest, BLOCK_BYTES), flags);
        flags = 0;
    }
    return node;
}

// Word by word, so that neighbouring threads are in neighbouring banks.
struct SharedNodes {
    u32 words[NODE_WORDS][DIGEST_THREADS];

    __device__ __forceinline__ Node get(u32 position) const {
        Node node;
#pragma unroll
        for (u32 i = 0; i < NODE_WORDS; ++i) {
            node.words[i] = words[i][position];
        }
        return node;
    }
    __device__ __forceinline__ void set(u32 position, const Node& node) {
#pragma unroll
        for (u32 i = 0; i < NODE_WORDS; ++i) {
            words[i][position] = node.words[i];
        }
    }
};

static __device__ __forceinline__ u32 chunk_count(const DigestRange& range) {
    return range.last / CHUNK_BYTES + 1;
}

static __device__ __forceinline__ Node range_chunk(const u8* memory, const DigestRange& range, u32 chunk) {
    const u32 start = chunk * CHUNK_BYTES;
    const u32 len_bytes = min(range.last - start, CHUNK_BYTES - 1) + 1;
    return chunk_node(memory + range.from + start, len_bytes, chunk, range.last < CHUNK_BYTES ? ROOT : 0);
}

// What one thread of `mmsb_digest_chunks` does: which chunk it hashes, and which nodes it joins.
struct Part {
    DigestRange range;
    // Position of the range in the table.
    u32 index;
    u32 chunk;
    // How many chunks of the range this block has; 0 for a thread that has none.
    u32 count;
};

static __device__ __forceinline__ Part part_of(const DigestRange* ranges, const DigestGroup& group) {
    const u32 me = threadIdx.x;
    u32 low = 0;
    if (group.range_count == 0) {
        return {ranges[group.range], group.range, group.first_chunk + me, me < group.chunk_count ? group.chunk_count : 0};
    }
    if (me >= group.chunk_count) {
        return {{0, 0, 0}, 0, 0, 0};
    }
    // The last range that begins at this thread or before.
    u32 high = group.range_count - 1;
#pragma unroll 1
    while (low < high) {
        const u32 middle = (low + high + 1) / 2;
        if (ranges[group.range + middle].slot <= me) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    const DigestRange range = ranges[group.range + low];
    return {range, group.range + low, me - range.slot, chunk_count(range)};
}

// One level of joining: this thread's node is made from two, or carried up from `left` alone, or there is nothing to do.
struct Join {
    u32 left;
    u32 right;
    bool is_pair;
    bool is_carried;
};

// Hashes all chunks, and writes the digests of ranges of at most 128 chunks to `digests`, at the position of the range, and the nodes
// of longer ones to `scratch`. One block a group.
extern "C" __global__ void __launch_bounds__(DIGEST_THREADS)
    mmsb_digest_chunks(const u8* __restrict__ memory, const DigestRange* __restrict__ ranges,
                       const DigestGroup* __restrict__ groups, Node* __restrict__ digests, Node* __restrict__ scratch) {
    __shared__ SharedNodes nodes;
    const u32 me = threadIdx.x;
    const DigestGroup group = groups[blockIdx.x];
    const Part part = part_of(ranges, group);
    const bool is_shared = group.range_count != 0;
    // Whether the block holds all of each of its ranges, so that the last node of one is its root.
    const bool is_whole = is_shared || chunk_count(part.range) <= DIGEST_THREADS;
    if (part.count != 0) {
        nodes.set(me, range_chunk(memory, part.range, part.chunk));
    }
    // Level by level. A range that has the block to itself is packed at the front at each level, so that few warps are left with
    // full lanes. Ranges that share one are joined in place, the first of a pair holding the node above it.
    u32 left_over = part.count;
    u32 distance = 1;
#pragma unroll 1
    while (__syncthreads_or(left_over > 1)) {
        const u32 pairs = left_over / 2;
        const Join join = is_shared ? Join{me, me + distance, part.chunk % (2 * distance) == 0 && part.chunk + distance < part.count,
                                           false}
                                    : Join{2 * me, 2 * me + 1, me < pairs, me == pairs && left_over % 2 != 0};
        Node node;
        if (join.is_pair) {
            node = parent_of(nodes.get(join.left), nodes.get(join.right), is_whole && left_over == 2 ? ROOT : 0);
        } else if (join.is_carried) {
            node = nodes.get(join.left);
        }
        __syncthreads();
        if (join.is_pair || join.is_carried) {
            nodes.set(me, node);
        }
        left_over -= pairs;
        distance *= 2;
    }
    if (is_shared) {
        if (part.count != 0 && part.chunk == 0) {
            digests[part.index] = nodes.get(me);
        }
    } else if (me < NODE_WORDS) {
        Node* to = is_whole ? digests + part.index : scratch + part.range.slot + group.first_chunk / DIGEST_THREADS;
        to->words[me] = nodes.words[me][0];
    }
}

// Joins the nodes of the ranges that `long_ranges` names, in place, and writes their digests. One block a range.
extern "C" __global__ void __launch_bounds__(ROOT_THREADS)
    mmsb_digest_roots(const DigestRange* __restrict__ ranges, const u32* __restrict__ long_ranges, Node* digests, Node* scratch) {
    const u32 index = long_ranges[blockIdx.x];
    const DigestRange range = ranges[index];
    Node* nodes = scratch + range.slot;
    u32 count = (chunk_count(range) + DIGEST_THREADS - 1) / DIGEST_THREADS;
#pragma unroll 1
    while (count > 1) {
        const u32 pairs = count / 2;
        const u32 above = count - pairs;
        // Nodes are written below those that are still to be read, after all of this turn were read.
#pragma unroll 1
        for (u32 base = 0; base < above; base += ROOT_THREADS) {
            const u32 at = base + threadIdx.x;
            Node node;
            if (at < pairs) {
                node = parent_of(nodes[2 * at], nodes[2 * at + 1], count == 2 ? ROOT : 0);
            } else if (at < above) {
                node = nodes[count - 1];
            }
            __syncthreads();
            if (at < above) {
                nodes[at] = node;
            }
            __syncthreads();
        }
        count = above;
    }
    if (threadIdx.x < NODE_WORDS) {
        digests[index].words[threadIdx.x] = nodes[0].words[threadIdx.x];
    }
}
