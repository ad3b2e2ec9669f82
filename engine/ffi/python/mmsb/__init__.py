"""MMSB, a memory-mapped state bus: named pages that change only through transactions, ordered in one log.

>>> import mmsb, tempfile
>>> with mmsb.Bus(tempfile.mkdtemp()) as bus:
...     page = bus.allocate(4096)
...     lsn = bus.write([(page, 8, b"hello")])
...     with bus.view(page) as view:
...         bytes(view.memory()[8:13])
b'hello'
"""

from ._bus import (Bus, Durability, Event, Events, Location, PageInfo, Replayed, Transaction, TransformCall, Transforms,
                   doctor, has_feature)
from ._errors import (BusError, BusyError, GraphError, HandleError, InDoubtError, MmsbError, PageError, ViewHeldError)
from ._shared import Moment, SharedPage, attach
from ._view import DeviceView, View

__all__ = [
    "Bus", "BusError", "BusyError", "DeviceView", "Durability", "Event", "Events", "GraphError", "HandleError",
    "InDoubtError", "Location", "MmsbError", "Moment", "PageError", "PageInfo", "Replayed", "SharedPage", "Transaction",
    "TransformCall", "Transforms", "View", "ViewHeldError", "attach", "doctor", "has_feature",
]
