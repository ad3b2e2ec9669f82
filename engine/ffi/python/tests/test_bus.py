import gc
import json
import os
import select
import subprocess
import sys
import threading

import numpy as np
import pytest

import mmsb

SMALL = dict(arena_bytes=256 << 20, segment_bytes=1 << 20)


@pytest.fixture
def bus(tmp_path):
    bus = mmsb.Bus(tmp_path / "bus", **SMALL)
    yield bus
    gc.collect()
    bus.close()


def test_what_is_written_is_there_and_survives(tmp_path):
    with mmsb.Bus(tmp_path / "bus", **SMALL) as bus:
        page = bus.allocate(64)
        assert bus.read(page) == bytes(64)
        lsn = bus.write([(page, 3, b"abc"), (page, 10, np.arange(3, dtype="u2")), (page, 20, bytearray(b"x")),
                         (page, 30, np.arange(8, dtype="u1")[::2])])
        digest = bus.digest()
    with mmsb.Bus(tmp_path / "bus", **SMALL) as bus:
        assert bus.read(page, 3, 3) == b"abc" and bus.read(page, 10, 6) == b"\0\0\1\0\2\0"
        assert bus.read(page, 30, 4) == b"\0\2\4\6" and bus.digest() == digest
        opened = bus.opened()
        # The last record is that of the close.
        assert opened["created"] == 0 and opened["torn"] == 0 and opened["last_lsn"] >= lsn and opened["applied"] >= 2
        bus.write([(page, 3, b"new")])
    with mmsb.Replayed(tmp_path / "bus", until=lsn, **SMALL) as past:
        assert past.digest() == digest and past.lsn == lsn and past.pages() == [page]
        with past.view(page) as view:
            assert bytes(view.memory()[3:6]) == b"abc"
    report = mmsb.doctor(tmp_path / "bus")
    assert report["clean"] and report["verdict"] == "opens" and json.dumps(report)


def test_an_array_is_the_page_itself(bus):
    page = bus.allocate(4096)
    bus.write([(page, 0, np.arange(512, dtype="f8"))])
    with bus.view(page) as view:
        array = view.numpy(dtype="f8")
        assert array.__array_interface__["data"][0] == view.address()
        assert array[511] == 511 and not array.flags.writeable
        with pytest.raises(ValueError):
            array.flags.writeable = True
        with pytest.raises((TypeError, ValueError)):
            view.memory()[0] = 1
        # Two views of one page show one place.
        with bus.view(page) as second:
            assert second.address() == view.address()
        tensor = np.from_dlpack(view)
        assert tensor.__array_interface__["data"][0] == view.address() and tensor.dtype == np.uint8
        del array, tensor


def test_arrays_keep_the_view(bus):
    page = bus.allocate(1000)
    bus.write([(page, 0, b"kept")])
    view = bus.view(page)
    array = view.numpy()[:4]
    with pytest.raises(mmsb.BusyError):
        view.release()
    with pytest.raises(mmsb.HandleError):
        view.numpy()
    with pytest.raises(mmsb.ViewHeldError):
        bus.write([(page, 0, b"gone")])
    with pytest.raises(mmsb.ViewHeldError):
        with bus.begin() as transaction:
            transaction.free(page)
    with pytest.raises(mmsb.BusyError):
        bus.close()
    bus.checkpoint()
    assert bytes(array) == b"kept"
    del array
    gc.collect()
    bus.write([(page, 0, b"gone")])
    for make in (lambda v: v.memory(), lambda v: np.from_dlpack(v), lambda v: v.__dlpack__()):
        view = bus.view(page)
        shown = make(view)
        del view
        gc.collect()
        with pytest.raises(mmsb.ViewHeldError):
            bus.write([(page, 0, b"x")])
        del shown
        gc.collect()
        bus.write([(page, 0, b"x")])


def test_a_refused_commit_can_be_tried_again(bus):
    page = bus.allocate(8)
    view = bus.view(page)
    transaction = bus.begin()
    transaction.write(page, 0, b"later")
    with pytest.raises(mmsb.ViewHeldError):
        transaction.commit()
    threading.Timer(0.05, view.release).start()
    transaction.commit(wait_s=10)
    assert bus.read(page, 0, 5) == b"later"
    with pytest.raises(mmsb.HandleError):
        transaction.write(page, 0, b"x")
    transaction.release()
    with pytest.raises(mmsb.HandleError):
        transaction.write(page, 0, b"x")


def test_views_made_and_dropped_by_threads(bus):
    pages = [bus.allocate(64) for _ in range(8)]
    stop, errors, commits = threading.Event(), [], 0

    def read():
        try:
            while not stop.is_set():
                view = bus.view(*pages)
                numbers = {int(view.numpy(page, "u8")[0]) for page in pages}
                assert len(numbers) == 1, numbers
                cycle = [view]
                cycle.append(cycle)  # the collector gets it, on whatever thread
                if len(numbers) and next(iter(numbers)) % 7 == 0:
                    gc.collect()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(200):
        try:
            bus.write([(page, 0, np.uint64([number])) for page in pages], mmsb.Durability.MEMORY, wait_s=0.01)
            commits += 1
        except mmsb.ViewHeldError:
            gc.collect()
    stop.set()
    for thread in threads:
        thread.join()
    gc.collect()
    assert not errors
    bus.write([(pages[0], 0, b"end")])


def test_derived_pages_by_python(tmp_path):
    transforms = mmsb.Transforms()
    calls = []

    def double(call):
        calls.append((call.start, len(call.out)))
        first = call.inputs[0]
        for n in range(len(call.out)):
            if first[call.start + n] > 200:
                raise ValueError("too much")
            call.out[n] = 2 * first[call.start + n] % 256

    transforms.add("double", double, same_offset=True, parents=1)
    with pytest.raises(mmsb.GraphError):
        transforms.add("double", double)
    with mmsb.Bus(tmp_path / "bus", transforms=transforms, **SMALL) as bus:
        del transforms
        gc.collect()
        with bus.begin() as transaction:
            new = [transaction.allocate(1000), transaction.allocate(1000)]
            transaction.connect(new[1], "double", [new[0]])
            transaction.annotate(new[1], "what", b"twice")
        base, derived = map(transaction.page, new)
        transaction.release()
        assert bus.parents(derived) == [base] and bus.info(derived).is_derived
        assert bus.annotation(derived, "what") == b"twice" and bus.annotation(derived, "no") is None
        calls.clear()
        bus.write([(base, 500, b"\x15")])
        assert bus.read(derived, 500, 1) == b"\x2a" and calls == [(500, 1)]
        bus.write([(base, 500, b"\xff")])
        with pytest.raises(mmsb.GraphError, match="ValueError: too much"):
            bus.read(derived)
        bus.write([(base, 500, b"\x01")])
        assert bus.read(derived, 500, 1) == b"\x02"


def test_events_wake_select(bus):
    page = bus.allocate(8)
    with bus.events(capacity=2) as events:
        assert select.select([events], [], [], 0)[0] == []
        threading.Timer(0.02, lambda: bus.write([(page, 0, b"1")])).start()
        assert select.select([events], [], [], 10)[0] == [events]
        assert [event.pages for event in events] == [[page]]
        assert select.select([events], [], [], 0)[0] == []
        for _ in range(5):
            bus.write([(page, 0, b"2")], mmsb.Durability.MEMORY)
        assert [event.lost for event in events] == [3, 0]


def test_what_is_wrong_is_told(bus, tmp_path):
    with pytest.raises(mmsb.PageError) as refused:
        bus.read(12345)
    assert refused.value.kind == "page.unknown"
    page = bus.allocate(4)
    for wrong in (lambda: bus.write([(page, 2, b"abc")]), lambda: bus.write([(page, 0, b"")]), lambda: bus.allocate(0)):
        with pytest.raises(mmsb.PageError):
            wrong()
    with pytest.raises(mmsb.BusError):
        mmsb.Bus(tmp_path / "bus", **SMALL)
    with pytest.raises(ValueError):
        bus.view(page, page).memory()
    device = bus.allocate(4096, mmsb.Location.DEVICE)
    with bus.device_view(device) as view, pytest.raises(BufferError):
        view.__dlpack__()
    assert not mmsb.has_feature("nonsense")
    assert bus.statistics()["live_pages"] == 1 and len(bus.pages()) == 2


def test_a_long_page_is_not_copied(tmp_path):
    """In a process of its own, so that nothing else counts."""
    program = f"""
import numpy as np, mmsb, resource
def rss():
    return int(next(l for l in open("/proc/self/status") if l.startswith("RssAnon")).split()[1]) << 10
bus = mmsb.Bus({str(tmp_path / 'long')!r}, arena_bytes=256 << 20)
page = bus.allocate(64 << 20)
data = np.full(1 << 20, 3, dtype="u1")
for part in range(64):
    bus.write([(page, part << 20, data)], mmsb.Durability.BUFFERED)
before = rss()
with bus.view(page) as view:
    array = view.numpy()
    total = sum(int(array[at : at + (1 << 20)].max()) for at in range(0, 64 << 20, 1 << 20))
    grown = rss() - before
    assert array.nbytes == 64 << 20 and total == 3 * 64
    del array
print(grown)
bus.close()
"""
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert int(output) < 4 << 20, f"{output} bytes of private memory for a view of 64 MiB"


CHILD = """
import os, sys, numpy as np, mmsb
shared = mmsb.attach(int(sys.argv[1]))
os.close(int(sys.argv[1]))
print(shared.page, len(shared), flush=True)
seen = set()
while 200 not in seen:
    array, moment = shared.read(dtype="u8", wait_s=30)
    assert (array == array[0]).all() and not array.flags.writeable, array
    assert moment.sequence % 2 == 0
    total, again = shared.read_in_place(lambda page: int(page.sum()), dtype="u8", wait_s=30)
    assert total % len(array) == 0 and again.lsn >= moment.lsn
    seen.add(int(array[0]))
place = shared.numpy("u8")
assert place[0] == 200
print("seen", flush=True)
sys.stdin.readline()
try:
    shared.read()
except mmsb.PageError as error:
    print(error.kind, int(place[0]), flush=True)
shared.release()
assert place[1] == 200
"""


def test_another_process_sees_commits_whole(bus):
    page = bus.allocate(64 << 10)
    with pytest.raises(mmsb.PageError, match="4033"):
        bus.export(bus.allocate(100))
    descriptor = bus.export(page)
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(descriptor)], pass_fds=[descriptor], text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    os.close(descriptor)
    assert child.stdout.readline().split() == [str(page), str(64 << 10)]
    for number in range(201):
        bus.write([(page, 0, np.full(8192, number, dtype="u8"))], durability=mmsb.Durability.MEMORY)
    assert child.stdout.readline().strip() == "seen"
    bus.withdraw(page)
    bus.write([(page, 0, bytes(64 << 10))])
    said, _ = child.communicate("go on\n", timeout=60)
    assert said.split() == ["shared.gone", "200"] and child.returncode == 0
    with open(os.devnull) as other, pytest.raises(mmsb.MmsbError, match="shared.not-a-page"):
        mmsb.attach(other)
