using MMSB, Test

small = (arena_bytes = 64 << 20, segment_bytes = 1 << 20)
kind_of(body) = try body(); nothing catch error; error isa MmsbError ? error.kind : rethrow() end

@testset "what is written is there and survives" begin
    directory = mktempdir()
    bus = Bus(directory; small...)
    lsn, id = Transaction(bus) do transaction
        id = allocate(transaction, 64)
        write!(transaction, id, 8, Float64[1, 2, 3])
        id
    end
    @test reinterpret(Float64, read_page(bus, id, 8, 24)) == [1, 2, 3]
    @test pages(bus) == [id]
    before = digest(bus)
    close(bus)
    @test kind_of(() -> digest(bus)) == "handle.null"
    bus = Bus(directory; small...)
    @test digest(bus) == before
    Transaction(transaction -> write!(transaction, id, 8, "new"), bus)
    close(bus)
    past = Replayed(directory; until = lsn, small...)
    @test digest(past) == before
    shown = view(past, id)
    release!(past)
    @test page(shown, Float64)[2] == 1
    release!(shown)
    @test occursin("\"clean\":true", doctor(directory))
end

@testset "views" begin
    bus = Bus(mktempdir(); small...)
    _, id = Transaction(transaction -> allocate(transaction, 80), bus)
    shown = view(bus, id)
    array = page(shown, Float64)
    @test length(array) == 10 && sum(array) == 0
    again = view(bus, id)
    @test pointer(page(again, Float64)) == pointer(array)
    release!(again)
    @test_throws ReadOnlyMemoryError array[1] = 1
    @test kind_of(() -> Transaction(transaction -> write!(transaction, id, 0, "x"), bus)) == "view.held"
    @test kind_of(() -> close(bus)) == "bus.busy"
    checkpoint(bus)
    release!(shown)
    release!(shown)
    @test kind_of(() -> array[1]) == "handle.stale"
    Transaction(transaction -> write!(transaction, id, 0, "x"), bus)
    close(bus)
end

@testset "derived pages and events" begin
    bus = Bus(mktempdir(); small...)
    events = Events(bus; capacity = 2)
    _, (a, b) = Transaction(bus) do transaction
        a, b = allocate(transaction, 8), allocate(transaction, 8)
        connect!(transaction, b, "copy", [a])
        (a, b)
    end
    Transaction(transaction -> write!(transaction, a, 0, "both"), bus)
    @test String(read_page(bus, b, 0, 4)) == "both"
    @test next_event(events).pages == [a, b]
    @test next_event(events).pages == [a]
    @test next_event(events) === nothing
    release!(events)
    @test statistics(bus).derived_pages == 1
    close(bus)
end

# Views that only the collector releases, while threads read, commit and collect: no array ever shows half a commit.
@testset "collections and finalizers" begin
    bus = Bus(mktempdir(); small...)
    _, ids = Transaction(bus) do transaction
        [allocate(transaction, 64) for _ in 1:8]
    end
    stop = Threads.Atomic{Bool}(false)
    readers = map(1:3) do _
        Threads.@spawn while !stop[]
            shown = view(bus, ids...)
            arrays = [page(shown, UInt64, id) for id in ids]
            rand() < 0.5 && release!(view(bus, ids[1]))
            first_of_all = arrays[1][1]
            @assert all(array -> array[1] == first_of_all, arrays)
            rand() < 0.1 && GC.gc(rand(Bool))
            yield()
        end
    end
    committed = 0
    for number in 1:300
        try
            Transaction(bus; durability = MMSB.MEMORY, wait_ns = 1_000_000) do transaction
                for id in ids
                    write!(transaction, id, 0, UInt64[number])
                end
            end
            committed += 1
        catch error
            error isa MmsbError && error.status == MMSB.VIEW_HELD || rethrow()
            GC.gc()
        end
    end
    stop[] = true
    foreach(wait, readers)
    # Whoever is collected twice, released twice or not at all would show here.
    for _ in 1:1000
        finalize(view(bus, ids[1]))
    end
    readers = nothing
    GC.gc()
    GC.gc()
    @test statistics(bus).open_handles == 0
    close(bus)
end
