// Four kernels, each with one mistake that one tool of compute-sanitizer must find: if it does not, its silence about the real kernels
// means nothing. `ci/gpu-controls/compile` makes planted.ptx from this.

// Found by memcheck: the last thread writes behind the end of `data`, which has `count` numbers.
extern "C" __global__ void planted_memcheck(unsigned* data, unsigned count) {
    data[threadIdx.x + (threadIdx.x == count - 1 ? 1 : 0)] = threadIdx.x;
}

// Found by racecheck: a thread reads what its neighbour writes, without waiting for it.
extern "C" __global__ void planted_racecheck(unsigned* data, unsigned count) {
    __shared__ unsigned shared[256];
    shared[threadIdx.x] = threadIdx.x * count;
    data[threadIdx.x] = shared[(threadIdx.x + 37) % blockDim.x];
}

// Found by initcheck: the second half of `data` was never written.
extern "C" __global__ void planted_initcheck(unsigned* data, unsigned count) {
    if (threadIdx.x < count / 2) {
        data[threadIdx.x] += data[threadIdx.x + count / 2];
    }
}

// Found by synccheck: threads wait for others of their warp, and do not count themselves among them. That some threads of a block never
// come to a barrier would not do: they have ended, and those that have are not waited for.
extern "C" __global__ void planted_synccheck(unsigned* data, unsigned count) {
    __shared__ unsigned shared[256];
    shared[threadIdx.x] = threadIdx.x;
    if (threadIdx.x % 32 < 8) {
        __syncwarp(0xffff0000u);
    }
    data[threadIdx.x] = shared[count - 1 - threadIdx.x];
}
