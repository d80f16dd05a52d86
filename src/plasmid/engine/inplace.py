"""Arrays and buffers made in place: they live in the arena from the start, so sealing copies
nothing.

The array that `empty` returns is a view of a `core.Lease`: memory of a pending object, in a mapping
of this process's own. Passed to a task it arrives there as an array over the same memory, by a
lease of that process. Whoever has none but its own may seal it.
"""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any

from plasmid import serialize
from plasmid._core import core
from plasmid.engine.base import SEAL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np


def empty(arena: core.Arena, shape: Any, dtype: Any, order: str) -> np.ndarray[Any, Any]:
    """A writable array in the arena, with any content. `order`: "C" or "F".

    TypeError for items that are Python objects, ObjectStoreFullError.
    """
    import numpy as np

    from plasmid.serialize.tensor import in_place_header

    try:
        sides = tuple(map(index, (shape,) if np.ndim(shape) == 0 else shape))
        like = np.broadcast_to(np.empty((), dtype), sides)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"empty: {error}") from None
    if like.dtype.hasobject:
        raise TypeError(
            f"empty: items of dtype {like.dtype} are Python objects, which stay in one process"
        )
    lease: Any = arena.create_in_place(like.nbytes)
    fortran: Any = order
    made: np.ndarray[Any, Any] = np.ndarray(like.shape, like.dtype, lease, 0, None, fortran)
    lease.write_header(in_place_header(made))
    lease.layout = _layout(made)
    return made


def create(arena: core.Arena, nbytes: int) -> memoryview:
    """A writable buffer of that many bytes in the arena. ObjectStoreFullError."""
    lease: Any = arena.create_in_place(nbytes)
    lease.write_header(serialize.in_place_buffer_header(nbytes))
    made = memoryview(lease)
    lease.layout = _layout(made)
    return made


def _layout(value: Any) -> tuple[Any, ...]:
    """Of all views of one object's memory, only those of all of it have the same as the first."""
    if isinstance(value, memoryview):
        return memoryview, value.nbytes
    return type(value), value.dtype, value.shape, value.strides


def lease_of(value: Any) -> core.Lease | None:
    """The lease whose memory an array or memoryview is, or is a part of; None if there is none, or
    it has been sealed."""
    owner = value
    while owner is not None and not isinstance(owner, core.Lease):
        owner = owner.obj if isinstance(owner, memoryview) else getattr(owner, "base", None)
    return None if owner is None or owner.sealed else owner


def seal(arena: core.Arena, lease: core.Lease, value: Any, timeout: float | None) -> Any:
    """Seal the object whose memory `value` is. Its reference if `value` is all of it, in the shape
    it was made with; None if it is a part, or another view.

    SealTimeoutError when another process can still write it after `timeout` seconds.
    """
    ref = lease.seal(timeout)
    # What another process made is read first: that takes as long as the seal of 1 GB.
    if _layout(value) != (lease.layout or _layout(arena.read(ref))):
        return None
    if not isinstance(value, memoryview):
        value.flags.writeable = False
    return ref


def seal_parts(arena: core.Arena, refs: Iterable[core.ObjectRef]) -> None:
    """Seal those of an object's contained references that are still being written."""
    for ref in refs if arena.in_place() else ():
        lease = arena.lease_of(ref)
        if lease is not None:
            lease.seal(SEAL_SECONDS)
