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

// Found by synccheck: some threads of a warp do not come to the barrier.
extern "C" __global__ void planted_synccheck(unsigned* data, unsigned count) {
    __shared__ unsigned shared[256];
    shared[threadIdx.x] = threadIdx.x;
    if (threadIdx.x < count / 2 + 7) {
        __syncthreads();
        data[threadIdx.x] = shared[0];
    }
}
