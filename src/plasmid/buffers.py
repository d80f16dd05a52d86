"""Memory of the store, seen directly: arrays made in place, stored bytes, how a value is stored.

Arguments are checked here; the work is the engine's.
"""

from __future__ import annotations

from plasmid.api import get_one_ref, seconds
from plasmid.engine import current
from plasmid.engine.base import SEAL_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from plasmid._core.core import ObjectRef
    from plasmid.serialize import Explanation

__all__ = ["create", "empty", "empty_like", "explain", "get_buffer", "seal"]


def empty(shape: int | tuple[int, ...], dtype: Any = float, order: str = "C") -> Any:
    """A writable numpy array in the store, with any content, which `put` and `seal` do not copy.

    `order`: "C" or "F". Pass it, or slices of it, to tasks: they write the same memory. One of the
    processes then seals it, when the others have let go of it. From the seal on the array given to
    `put` or `seal` is read-only, and older slices of it are private: what is written to them
    changes no stored object. Dropped without a seal its memory is given back.

    TypeError for dtypes whose items are Python objects, ValueError for a bad shape or order,
    ObjectStoreFullError if no free block is that large.

    Processes and threads: as for any numpy array; nothing orders the writes of several processes
    but the end of tasks. Cost: no copy and no initialization; a page fault for each 4 KB written
    first.
    """
    if order not in ("C", "F"):
        raise ValueError(f"empty: order must be 'C' or 'F', not {order!r}")
    return current.engine.empty(shape, dtype, order)


def empty_like(prototype: Any, dtype: Any = None, order: str = "K", shape: Any = None) -> Any:
    """`empty` with shape, dtype and order of another array, unless given.

    `order` "K" and "A": "F" if the prototype is Fortran-contiguous and not C-contiguous, else "C".
    """
    import numpy as np

    like = np.asanyarray(prototype)
    if order in ("K", "A"):
        order = "F" if like.flags.fnc else "C"
    return empty(
        like.shape if shape is None else shape, like.dtype if dtype is None else dtype, order
    )


def create(nbytes: int) -> memoryview:
    """A writable buffer of `nbytes` bytes in the store, which `put` and `seal` do not copy.

    As `empty`. `get` of the sealed object gives a read-only memoryview.
    """
    if isinstance(nbytes, bool) or not hasattr(nbytes, "__index__"):
        raise TypeError(f"create: nbytes must be a whole number, not {nbytes!r}")
    number = nbytes.__index__()
    if number < 0:
        raise ValueError(f"create: nbytes must not be negative, got {number}")
    return current.engine.create(min(number, 1 << 60))  # larger than any store, and so refused


def seal(value: Any, *, timeout: float | None = SEAL_SECONDS) -> ObjectRef:
    """Make an array of `empty` or a buffer of `create` immutable and visible: its reference.

    Nothing is copied. `put` does the same, waiting ten seconds. For a slice or another view of the
    array the reference is to an object that shares its memory.

    Waits until no other process can write it any more, `timeout` seconds at most (None: for ever):
    then SealTimeoutError names one that can. ValueError for a value that is not being made in
    place.
    """
    limit = None if timeout is None else seconds("seal", timeout)
    return current.engine.seal(value, limit)


def get_buffer(object_ref: ObjectRef, *, timeout: float | None = None) -> memoryview:
    """The stored bytes of a value, read-only and without a copy.

    Of an array its items, of bytes, bytearray or a buffer of `create` its bytes, of an Arrow table
    an IPC stream, of any other value its stored form (serialize/layout.py). The memory stays while
    the memoryview, or a view of it, lives.

    Blocks until the object is there; GetTimeoutError, ObjectFreedError, ... as `get`.
    """
    ref, limit = get_one_ref("get_buffer", object_ref, timeout)
    return current.engine.get_buffer(ref, limit)


def explain(object_ref: ObjectRef, *, timeout: float | None = None) -> Explanation:
    """How an object is stored: its kind, its buffers, the bytes that `put` copied, and what kept
    it from being stored and read without copies. `print` it.

    Blocks until the object is there. Reads the stored header, and rebuilds no value.
    """
    ref, limit = get_one_ref("explain", object_ref, timeout)
    explanation: Explanation = current.engine.explain(ref, limit)
    return explanation
