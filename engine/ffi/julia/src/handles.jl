# Handles that are released once, by hand or by the collector, and errors.

"A call was refused: `status` is that of the C ABI, `kind` the stable name of the error, such as `page.stale`."
struct MmsbError <: Exception
    status::Int32
    kind::String
    message::String
end

Base.showerror(io::IO, error::MmsbError) = print(io, "MmsbError: ", error.message, " [", error.kind, "]")

"The error of the last call of this thread that failed. To be called with nothing in between: a task may move to another thread."
function last_error(status::Int32)
    kind = unsafe_string(@ccall library.mmsb_last_error_kind()::Cstring)
    message = unsafe_string(@ccall library.mmsb_last_error_message()::Cstring)
    MmsbError(status, kind, message)
end

check(status::Int32) = status == OK ? nothing : throw(last_error(status))

"""
What has a handle. The handle is swapped for 0 by whoever releases it first, so a finalizer and `release!` cannot both do it, and a
call through an object that was released is refused by the library as a null handle.
"""
abstract type Owner end

function take!(owner::Owner)
    @atomicswap owner.handle = UInt64(0)
end

handle(owner::Owner) = @atomic owner.handle

# Finalizers must not switch tasks or throw: these calls do neither. What is refused because something opened from it is
# still there is tried again at the next collection.
function finalize_owner(owner::Owner)
    taken = take!(owner)
    taken == 0 && return nothing
    if release_handle(owner, taken) == Int32(4)
        @atomic owner.handle = taken
        finalizer(finalize_owner, owner)
    end
    nothing
end

"Releases an object. Nothing if it was released; if that is refused, it stays."
function release!(owner::Owner)
    taken = take!(owner)
    taken == 0 && return nothing
    status = release_handle(owner, taken)
    if status != OK
        error = last_error(status)
        if status == Int32(4)
            @atomic owner.handle = taken
        end
        throw(error)
    end
    nothing
end

"A bus in a directory."
mutable struct Bus <: Owner
    @atomic handle::UInt64
end

"An atomic group of changes."
mutable struct Transaction <: Owner
    @atomic handle::UInt64
    bus::Bus
end

"Pages as of one moment. Arrays made from it keep it."
mutable struct View <: Owner
    @atomic handle::UInt64
    pages::Vector{UInt64}
end

"The state of a bus as of an LSN."
mutable struct Replayed <: Owner
    @atomic handle::UInt64
end

"A subscription to commits."
mutable struct Events <: Owner
    @atomic handle::UInt64
end

release_handle(::Bus, value::UInt64) = @ccall library.mmsb_bus_close(value::UInt64)::Int32
release_handle(::Transaction, value::UInt64) = @ccall library.mmsb_transaction_release(value::UInt64)::Int32
release_handle(::View, value::UInt64) = @ccall library.mmsb_view_release(value::UInt64)::Int32
release_handle(::Replayed, value::UInt64) = @ccall library.mmsb_replay_release(value::UInt64)::Int32
release_handle(::Events, value::UInt64) = @ccall library.mmsb_events_close(value::UInt64)::Int32

owned(owner::Owner) = finalizer(finalize_owner, owner)
