#!/usr/bin/env python3
"""Times what others do with the same bytes on this GPU: references.py OUT.json [RUNS]

Loading 84 MiB (4 + 16 + 64) that is in the page cache to the GPU with torch.load and safetensors, and allocating and freeing device memory
with cudaMallocAsync (its pool tuned to keep what is freed), PyTorch's and CuPy's pools. What is not installed is left out, and
named. Every time is the median and the 99th percentile of RUNS runs, after a few to get going.
"""

import ctypes
import json
import os
import sys
import tempfile
import time

MIB = 1 << 20
LENGTHS = [4 * MIB, 16 * MIB, 64 * MIB]


def timed(name, run, runs, rows, inner=1):
    for _ in range(5):
        run()
    times = []
    for _ in range(runs):
        start = time.perf_counter_ns()
        run()
        times.append((time.perf_counter_ns() - start) / inner)
    times.sort()
    rows[name] = {"median_ns": times[len(times) // 2], "p99_ns": times[-(-99 * len(times) // 100) - 1], "runs": runs}
    print(f"{name:44} median {rows[name]['median_ns']:12.0f} ns   p99 {rows[name]['p99_ns']:12.0f} ns", flush=True)


def loading(torch, rows, runs):
    pages = {f"page{i}": torch.randint(0, 256, (n,), dtype=torch.uint8) for i, n in enumerate(LENGTHS)}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "pages.pt")
        torch.save(pages, path)

        def load(**options):
            loaded = torch.load(path, map_location="cuda", weights_only=True, **options)
            torch.cuda.synchronize()
            return loaded

        assert all(bool((page.cpu() == pages[name]).all()) for name, page in load().items())
        timed("torch.load, 84 MiB", load, runs, rows)
        timed("torch.load, mmap, 84 MiB", lambda: load(mmap=True), runs, rows)
        try:
            from safetensors.torch import load_file, save_file
        except ImportError:
            rows["safetensors"] = "not installed"
            return
        path = os.path.join(folder, "pages.safetensors")
        save_file(pages, path)

        def load_safe():
            loaded = load_file(path, device="cuda")
            torch.cuda.synchronize()
            return loaded

        timed("safetensors, 84 MiB", load_safe, runs, rows)


def copying(torch, rows, runs):
    pinned = torch.empty(sum(LENGTHS), dtype=torch.uint8).pin_memory()
    device = torch.empty(sum(LENGTHS), dtype=torch.uint8, device="cuda")

    def copy():
        device.copy_(pinned, non_blocking=True)
        torch.cuda.synchronize()

    timed("bare pinned copy (PyTorch), 84 MiB", copy, runs, rows)


def allocating(torch, rows, runs):
    inner = 1000

    def torch_pool():
        for _ in range(inner):
            block = torch.cuda.caching_allocator_alloc(MIB)
            torch.cuda.caching_allocator_delete(block)

    timed("PyTorch pool, alloc + free of 1 MiB", torch_pool, runs, rows, inner)
    try:
        import cupy
    except ImportError:
        rows["CuPy"] = "not installed"
    else:
        pool = cupy.cuda.MemoryPool()

        def cupy_pool():
            for _ in range(inner):
                pool.malloc(MIB)

        timed("CuPy pool, alloc + free of 1 MiB", cupy_pool, runs, rows, inner)
    driver = ctypes.CDLL("libcuda.so.1")
    pool = ctypes.c_void_p()
    assert driver.cuDeviceGetDefaultMemPool(ctypes.byref(pool), 0) == 0
    keep_all = ctypes.c_uint64(2**64 - 1)
    release_threshold = 4
    assert driver.cuMemPoolSetAttribute(pool, release_threshold, ctypes.byref(keep_all)) == 0
    stream = ctypes.c_void_p()
    assert driver.cuStreamCreate(ctypes.byref(stream), 1) == 0
    address, length = ctypes.c_uint64(), ctypes.c_size_t(MIB)
    out = ctypes.byref(address)
    alloc, free = driver.cuMemAllocAsync, driver.cuMemFreeAsync

    def empty_calls():
        # What ctypes itself costs for two calls.
        for _ in range(inner):
            driver.cuDriverGetVersion(out)
            driver.cuDriverGetVersion(out)

    def malloc_async():
        for _ in range(inner):
            alloc(out, length, stream)
            free(address, stream)
        driver.cuStreamSynchronize(stream)

    timed("two calls of the driver that do nothing (ctypes)", empty_calls, runs, rows, inner)
    timed("cudaMallocAsync, tuned, alloc + free of 1 MiB (ctypes)", malloc_async, runs, rows, inner)


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        print(__doc__)
        return
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    rows = {}
    try:
        import torch
    except ImportError:
        rows["PyTorch"] = "not installed"
    else:
        rows["gpu"] = torch.cuda.get_device_name(0)
        rows["torch"] = torch.__version__
        copying(torch, rows, runs)
        loading(torch, rows, runs)
        allocating(torch, rows, max(runs // 10, 5))
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        json.dump(rows, out, indent=2)
        out.write("\n")


main()
