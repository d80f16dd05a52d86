"""Memory that lies in the store already: stored by reference, not copied.

The layer below registers how to find and to open it. A buffer that is found goes into the pickle's
table of buffers as (reference, offset, length): the stored object contains the reference, and so
keeps the memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from .layout import Bytes

SHARE_BYTES = 1 << 16
"""Shorter buffers are copied: that takes less than a further object to keep and to pin. Memory of
arrays that are being made in place is shared at any length: a copy would be another array."""


class Store(Protocol):
    """What knows the memory of stored objects."""

    def locate(self, data: Bytes) -> tuple[Any, int] | None:
        """(reference, offset in its stored bytes) of a contiguous buffer, or None."""

    def open(self, ref: Any, offset: int, nbytes: int, writable: bool) -> Bytes:
        """A buffer over stored bytes, which keeps them."""

    def in_place(self) -> bool:
        """Whether any object is being made in place in this process."""

    def lease_of(self, ref: Any) -> Any:
        """Not None if that object is being made in place."""


class _Nothing:
    def locate(self, data: Bytes) -> None:
        return None

    def open(self, ref: Any, offset: int, nbytes: int, writable: bool) -> Bytes:
        raise LookupError(f"there is no store to open {ref!r} with")

    def in_place(self) -> bool:
        return False

    def lease_of(self, ref: Any) -> None:
        return None


_store: Store = _Nothing()
any_in_place: Callable[[], bool] = _store.in_place


def use_store(store: Store | None) -> None:
    """Share the memory of this store from now on; None: of none."""
    global _store, any_in_place
    _store = store or _Nothing()
    any_in_place = _store.in_place


def is_asked(nbytes: int) -> bool:
    """Whether memory of this length may be shared at all."""
    return nbytes >= SHARE_BYTES or (any_in_place() and nbytes > 0)


def find(data: Bytes, nbytes: int) -> tuple[Any, int] | None:
    """The reference whose stored bytes the contiguous `data` lies in, and where in them; or
    None."""
    return _store.locate(data) if is_asked(nbytes) else None


def open(ref: Any, offset: int, nbytes: int, writable: bool) -> Bytes:
    """What `find` found, in whatever process. Raises what the store raises: ObjectFreedError,
    ..."""
    return _store.open(ref, offset, nbytes, writable)


def private(data: Bytes, nbytes: int) -> Bytes | None:
    """The contiguous `data`, if it is stored, as a writable buffer: copy-on-write, so that nobody
    else sees what is written. None if it is not stored."""
    found = _store.locate(data)
    return None if found is None else _store.open(*found, nbytes, True)


def refuse_in_place(data: Bytes, cls: type) -> None:
    """TypeError if the contiguous `data` is memory of an array that is still being made in place:
    what `cls` pickles by itself is a copy, and what is written to it would be lost."""
    if not any_in_place():
        return
    found = _store.locate(data)
    if found is not None and _store.lease_of(found[0]) is not None:
        raise TypeError(
            f"cannot pickle {cls.__qualname__!r} object: its memory is an array that is still "
            f"being made in place, and {cls.__qualname__} would pickle a copy of it, so what is "
            "written there would be lost. Pass the plain array, as numpy.asarray() gives it, or "
            "seal it first"
        )
