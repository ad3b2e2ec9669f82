"""A tour: state that survives, is read without copies, is computed, and can be replayed. Run it as a script, or cell by cell."""

# %% A bus, and two pages of numbers
import tempfile

import numpy as np

import mmsb

directory = tempfile.mkdtemp()
transforms = mmsb.Transforms()


def double(call: mmsb.TransformCall) -> None:
    numbers = np.frombuffer(call.inputs[0], dtype="f8")
    first = call.start // 8
    np.frombuffer(call.out, dtype="f8")[:] = 2 * numbers[first : first + len(call.out) // 8]


transforms.add("double", double, same_offset=True, granule_bytes=8, parents=1)
bus = mmsb.Bus(directory, transforms=transforms)
with bus.begin() as transaction:
    numbers = transaction.allocate(8 * 1000)
    doubled = transaction.allocate(8 * 1000)
    transaction.connect(doubled, "double", [numbers])
numbers, doubled = transaction.page(numbers), transaction.page(doubled)
transaction.release()

# %% Change them, and look at both as of one moment
lsn = bus.write([(numbers, 0, np.arange(1000, dtype="f8"))])
with bus.view(numbers, doubled) as view:
    assert view.numpy(doubled, "f8")[999] == 1998
    print("sum", view.numpy(numbers, "f8").sum(), "doubled", view.numpy(doubled, "f8").sum())

# %% The past
bus.write([(numbers, 0, np.zeros(1000))])
now = bus.digest()
bus.close()
with mmsb.Replayed(directory, until=lsn, transforms=transforms) as past, past.view(numbers) as view:
    assert view.numpy(dtype="f8")[999] == 999
    assert past.digest() != now
print(mmsb.doctor(directory)["verdict"])
