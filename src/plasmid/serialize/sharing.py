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


class _Nothing:
    def locate(self, data: Bytes) -> None:
        return None

    def open(self, ref: Any, offset: int, nbytes: int, writable: bool) -> Bytes:
        raise LookupError(f"there is no store to open {ref!r} with")

    def in_place(self) -> bool:
        return False


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
