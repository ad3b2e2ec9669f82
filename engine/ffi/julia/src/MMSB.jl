"""
MMSB, a memory-mapped state bus, from Julia: pages that change only through transactions, ordered in one log.

The library is `ENV["MMSB_LIBRARY"]`, or `libmmsb_ffi` where the system finds it.
"""
module MMSB

export Bus, Transaction, View, Replayed, Events, MmsbError
export allocate, write!, commit!, view, page, read_page, checkpoint, digest, pages, connect!, disconnect!, annotate!
export free!, transfer!, transferred, release!, next_event, statistics, doctor

const library = get(ENV, "MMSB_LIBRARY", "libmmsb_ffi")

const ABI_VERSION = 0x00010000
const END = typemax(UInt64)

const OK = Int32(0)
const BUFFER_TOO_SMALL = Int32(6)
const NOTHING = Int32(8)
const VIEW_HELD = Int32(11)
const DAMAGED = Int32(15)

const SYNC = UInt32(0)
const MEMORY = UInt32(1)
const BUFFERED = UInt32(2)

include("structures.jl")
include("handles.jl")
include("bus.jl")

function __init__()
    found = @ccall library.mmsb_abi_version()::UInt32
    if found >> 16 != ABI_VERSION >> 16 || found & 0xffff < ABI_VERSION & 0xffff
        error("$library has ABI $(string(found, base = 16)), and this package needs $(string(ABI_VERSION, base = 16))")
    end
end

end
