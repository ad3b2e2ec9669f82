# Buses, transactions, views, events and states of the past.

"""
    Bus(directory; options...)

Opens the bus in `directory`, or creates it. Options are the fields of `mmsb_options`.
"""
function Bus(directory::AbstractString; fields...)
    given, out = Ref(options(; fields...)), Ref{UInt64}(0)
    check(@ccall library.mmsb_bus_open(directory::Cstring, given::Ptr{mmsb_options}, out::Ptr{UInt64})::Int32)
    owned(Bus(out[]))
end

Base.close(bus::Bus) = release!(bus)

function Transaction(bus::Bus)
    out = Ref{UInt64}(0)
    GC.@preserve bus check(@ccall library.mmsb_transaction_begin(handle(bus)::UInt64, out::Ptr{UInt64})::Int32)
    owned(Transaction(out[], bus))
end

"""
    Transaction(f, bus; durability = SYNC, wait_ns = 0) -> LSN

Runs `f` with a transaction and commits it; discards it if `f` throws.
"""
function Transaction(body, bus::Bus; durability = SYNC, wait_ns = 0)
    transaction = Transaction(bus)
    try
        result = body(transaction)
        lsn = commit!(transaction; durability, wait_ns)
        return lsn, map_pages(transaction, result)
    finally
        release!(transaction)
    end
end

const NEW_PAGE = UInt64(1) << 63
map_pages(transaction, id::UInt64) = id & NEW_PAGE == 0 ? id : page(transaction, id)
map_pages(transaction, ids::Union{Tuple,Vector{UInt64}}) = map(id -> map_pages(transaction, id), ids)
map_pages(transaction, other) = other

"A page of `len` zeros; the id is good in this transaction alone, and `page` gives the lasting one after the commit."
function allocate(transaction::Transaction, len::Integer; location::Integer = 0)
    out = Ref{UInt64}(0)
    GC.@preserve transaction check(@ccall library.mmsb_transaction_allocate(
        handle(transaction)::UInt64, len::UInt64, location::UInt32, out::Ptr{UInt64})::Int32)
    out[]
end

"Writes the bytes of a dense array of bits to a page, from byte `offset` (from 0) on."
function write!(transaction::Transaction, id::UInt64, offset::Integer, data::DenseArray{T}) where {T}
    isbitstype(T) || throw(ArgumentError("only arrays of plain bits can be written"))
    GC.@preserve transaction data check(@ccall library.mmsb_transaction_write(
        handle(transaction)::UInt64, id::UInt64, offset::UInt64, pointer(data)::Ptr{UInt8}, sizeof(data)::Csize_t)::Int32)
end

function write!(transaction::Transaction, id::UInt64, offset::Integer, text::String)
    write!(transaction, id, offset, Vector{UInt8}(text))
end

function free!(transaction::Transaction, id::UInt64)
    GC.@preserve transaction check(@ccall library.mmsb_transaction_free(handle(transaction)::UInt64, id::UInt64)::Int32)
end

function transfer!(transaction::Transaction, id::UInt64)
    GC.@preserve transaction check(@ccall library.mmsb_transaction_transfer(handle(transaction)::UInt64, id::UInt64)::Int32)
end

"Makes `child` a page that the transform `name` computes from `parents`."
function connect!(transaction::Transaction, child::UInt64, name::AbstractString, parents::Vector{UInt64};
                  version::Integer = 1, params::Vector{UInt8} = UInt8[])
    GC.@preserve transaction params parents check(@ccall library.mmsb_transaction_connect(
        handle(transaction)::UInt64, child::UInt64, name::Cstring, version::UInt32, pointer(params)::Ptr{UInt8},
        length(params)::Csize_t, pointer(parents)::Ptr{UInt64}, length(parents)::Csize_t)::Int32)
end

function disconnect!(transaction::Transaction, child::UInt64)
    GC.@preserve transaction check(@ccall library.mmsb_transaction_disconnect(
        handle(transaction)::UInt64, child::UInt64)::Int32)
end

"Sets the metadata `key` of a page."
function annotate!(transaction::Transaction, id::UInt64, key::AbstractString, value::Vector{UInt8})
    GC.@preserve transaction value check(@ccall library.mmsb_transaction_annotate(
        handle(transaction)::UInt64, id::UInt64, key::Cstring, pointer(value)::Ptr{UInt8}, length(value)::Csize_t)::Int32)
end

"Commits, and gives the LSN. Refused with status `VIEW_HELD` if views are in the way; it can be committed again then."
function commit!(transaction::Transaction; durability = SYNC, wait_ns = 0)
    out = Ref{UInt64}(0)
    GC.@preserve transaction check(@ccall library.mmsb_transaction_commit(
        handle(transaction)::UInt64, durability::UInt32, wait_ns::UInt64, out::Ptr{UInt64})::Int32)
    out[]
end

"The lasting id of a page that a committed transaction allocated."
function page(transaction::Transaction, new_page::UInt64)
    out = Ref{UInt64}(0)
    GC.@preserve transaction check(@ccall library.mmsb_transaction_page(
        handle(transaction)::UInt64, new_page::UInt64, out::Ptr{UInt64})::Int32)
    out[]
end

"The new id of a page that a committed transaction transferred."
function transferred(transaction::Transaction, old::UInt64)
    out = Ref{UInt64}(0)
    GC.@preserve transaction check(@ccall library.mmsb_transaction_transferred(
        handle(transaction)::UInt64, old::UInt64, out::Ptr{UInt64})::Int32)
    out[]
end

"Pages as of one moment, not copied. Commits to them are refused until it is released."
function view(bus::Bus, ids::UInt64...)
    wanted, out = collect(UInt64, ids), Ref{UInt64}(0)
    GC.@preserve bus wanted check(@ccall library.mmsb_view_open(
        handle(bus)::UInt64, pointer(wanted)::Ptr{UInt64}, length(wanted)::Csize_t, out::Ptr{UInt64})::Int32)
    owned(View(out[], wanted))
end

"""
The bytes of a page of a view as an array of `T`, read-only, not copied. It keeps the view: `release!` of the view while one is in use
makes it throw, it never dangles.
"""
struct PageArray{T} <: AbstractVector{T}
    view::View
    data::Ptr{T}
    len::Int
end

Base.size(array::PageArray) = (array.len,)
Base.IndexStyle(::Type{<:PageArray}) = IndexLinear()

# The handle is looked at inside of `@preserve`, so a finalizer cannot come in between. A `release!` by another task at the same time
# is a race of the program, as with `close` of a file.
Base.@propagate_inbounds function Base.getindex(array::PageArray, index::Int)
    @boundscheck checkbounds(array, index)
    owner = array.view
    GC.@preserve owner begin
        handle(owner) == 0 && throw(MmsbError(Int32(2), "handle.stale", "the view was released"))
        unsafe_load(array.data, index)
    end
end

Base.setindex!(::PageArray, _, ::Int) = throw(ReadOnlyMemoryError())

"The page `id` of a view, or its only one, as an array of `T`."
function page(view::View, ::Type{T} = UInt8, id::UInt64 = only(view.pages)) where {T}
    isbitstype(T) || throw(ArgumentError("only plain bits can be read"))
    position = findfirst(==(id), view.pages)
    position === nothing && throw(ArgumentError("the view has no page $id"))
    found = Ref(mmsb_bytes(C_NULL, 0))
    GC.@preserve view check(@ccall library.mmsb_view_page(
        handle(view)::UInt64, (position - 1)::Csize_t, C_NULL::Ptr{UInt64}, found::Ptr{mmsb_bytes})::Int32)
    PageArray{T}(view, Ptr{T}(found[].data), Int(found[].len ÷ sizeof(T)))
end

Base.pointer(array::PageArray) = array.data

"A copy of `len` bytes of a page, from byte `offset` (from 0) on."
function read_page(bus::Bus, id::UInt64, offset::Integer, len::Integer)
    bytes = Vector{UInt8}(undef, len)
    GC.@preserve bus bytes check(@ccall library.mmsb_read_into(
        handle(bus)::UInt64, id::UInt64, offset::UInt64, pointer(bytes)::Ptr{UInt8}, len::Csize_t)::Int32)
    bytes
end

function checkpoint(bus::Bus)
    GC.@preserve bus check(@ccall library.mmsb_bus_checkpoint(handle(bus)::UInt64, C_NULL::Ptr{Cvoid})::Int32)
end

"BLAKE3 over all pages, as of one moment."
function digest(bus::Bus)
    bytes = Vector{UInt8}(undef, 32)
    GC.@preserve bus bytes check(@ccall library.mmsb_bus_digest(handle(bus)::UInt64, pointer(bytes)::Ptr{UInt8})::Int32)
    bytes
end

function digest(past::Replayed)
    bytes = Vector{UInt8}(undef, 32)
    GC.@preserve past bytes check(@ccall library.mmsb_replay_digest(
        handle(past)::UInt64, pointer(bytes)::Ptr{UInt8})::Int32)
    bytes
end

"The ids of all pages, in order."
function pages(bus::Bus)
    found, needed = UInt64[], Ref{Csize_t}(0)
    while true
        status = GC.@preserve bus found @ccall library.mmsb_bus_pages(
            handle(bus)::UInt64, pointer(found)::Ptr{UInt64}, length(found)::Csize_t, needed::Ptr{Csize_t})::Int32
        if status != BUFFER_TOO_SMALL
            check(status)
            return resize!(found, needed[])
        end
        resize!(found, needed[])
    end
end

function statistics(bus::Bus)
    out = Ref(sized(mmsb_statistics))
    GC.@preserve bus check(@ccall library.mmsb_bus_statistics(handle(bus)::UInt64, out::Ptr{mmsb_statistics})::Int32)
    out[]
end

function Events(bus::Bus; capacity::Integer = 1024)
    out = Ref{UInt64}(0)
    GC.@preserve bus check(@ccall library.mmsb_events_open(
        handle(bus)::UInt64, capacity::Csize_t, out::Ptr{UInt64})::Int32)
    owned(Events(out[]))
end

"The oldest commit that waits: its LSN, its pages, and how many before it were lost; or `nothing`."
function next_event(events::Events)
    ids, needed, out = Vector{UInt64}(undef, 16), Ref{Csize_t}(0), Ref(sized(mmsb_event))
    while true
        status = GC.@preserve events ids @ccall library.mmsb_events_next(
            handle(events)::UInt64, out::Ptr{mmsb_event}, pointer(ids)::Ptr{UInt64}, length(ids)::Csize_t,
            needed::Ptr{Csize_t})::Int32
        status == NOTHING && return nothing
        if status != BUFFER_TOO_SMALL
            check(status)
            return (lsn = out[].lsn, pages = resize!(ids, needed[]), lost = out[].lost)
        end
        resize!(ids, needed[])
    end
end

"The state of the bus in `directory` as of LSN `until`."
function Replayed(directory::AbstractString; until::Integer = END, fields...)
    given, out = Ref(options(; fields...)), Ref{UInt64}(0)
    check(@ccall library.mmsb_replay_open(
        directory::Cstring, until::UInt64, given::Ptr{mmsb_options}, out::Ptr{UInt64})::Int32)
    owned(Replayed(out[]))
end

function view(past::Replayed, ids::UInt64...)
    wanted, out = collect(UInt64, ids), Ref{UInt64}(0)
    GC.@preserve past wanted check(@ccall library.mmsb_replay_view(
        handle(past)::UInt64, pointer(wanted)::Ptr{UInt64}, length(wanted)::Csize_t, out::Ptr{UInt64})::Int32)
    owned(View(out[], wanted))
end

"What opening a directory would say, as JSON, without opening it."
function doctor(directory::AbstractString)
    room, needed = Vector{UInt8}(undef, 4096), Ref{Csize_t}(0)
    while true
        status = GC.@preserve room @ccall library.mmsb_doctor(
            directory::Cstring, pointer(room)::Ptr{UInt8}, length(room)::Csize_t, needed::Ptr{Csize_t})::Int32
        if status != BUFFER_TOO_SMALL
            status == DAMAGED || check(status)
            return String(room[1:needed[]])
        end
        resize!(room, needed[] + 1)
    end
end
