# The structures of mmsb.h. ci/ffi compares their fields with the pinned layouts.

struct mmsb_options
    size::UInt64
    arena_bytes::UInt64
    segment_bytes::UInt64
    retention_bytes::UInt64
    retention::UInt32
    propagation::UInt32
    threads::UInt32
    appliers::UInt32
    no_prefill::UInt32
    compression::UInt32
    registry::UInt64
    device::UInt32
    device_index::UInt32
    device_bytes::UInt64
    identity::NTuple{16,UInt8}
end

struct mmsb_statistics
    size::UInt64
    last_lsn::UInt64
    durable_lsn::UInt64
    live_pages::UInt64
    live_bytes::UInt64
    derived_pages::UInt64
    reserved_bytes::UInt64
    capacity_bytes::UInt64
    log_bytes::UInt64
    syncs::UInt64
    rotations::UInt64
    open_handles::UInt64
    log_writes::UInt64
    recycled::UInt64
    footprint_bytes::UInt64
    peak_footprint_bytes::UInt64
    waste_bytes::UInt64
    largest_free_range_bytes::UInt64
    allocations_total::UInt64
    releases_total::UInt64
end

struct mmsb_event
    size::UInt64
    lsn::UInt64
    lost::UInt64
    pages::UInt64
end

struct mmsb_bytes
    data::Ptr{UInt8}
    len::UInt64
end

"""
    options(; fields...)

The options of a bus by the names of their fields; those that are not given are zero, which is their default.
"""
function options(; fields...)
    unknown = setdiff(keys(fields), fieldnames(mmsb_options))
    isempty(unknown) || throw(ArgumentError("no such options: $(join(unknown, ", "))"))
    zero_of(::Type{NTuple{16,UInt8}}) = ntuple(_ -> 0x00, 16)
    zero_of(type) = zero(type)
    values = map(fieldnames(mmsb_options), fieldtypes(mmsb_options)) do name, type
        name === :size ? UInt64(sizeof(mmsb_options)) : convert(type, get(fields, name, zero_of(type)))
    end
    mmsb_options(values...)
end

sized(::Type{T}) where {T} = T(UInt64(sizeof(T)), ntuple(_ -> UInt64(0), fieldcount(T) - 1)...)
