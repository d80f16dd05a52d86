"""The two entry points: which planner serves a type, which loader reads a kind."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from plasmid.exceptions import user_reducers

from . import pickled
from .layout import (
    ARROW,
    BUFFER,
    DATA_OFFSET,
    HEAD_BUFFER,
    HEAD_RAW,
    HEAD_TENSOR,
    HEADER,
    MAGIC,
    PICKLE,
    RAW,
    TENSOR,
    VERSION,
    Bytes,
    Plan,
    corrupted,
    read_head,
)

_modules = 0  # that were imported when libraries were last looked for

# A library's values exist only once it is loaded; then the module here that knows them joins in.
_waiting = {
    "numpy": "tensor",
    "pyarrow": "arrow",
    "pandas": "frames",
    "polars": "polars",
    "PIL.Image": "images",
    "torch": "torch",
    "array": "stdlib",
}


def plan(value: Any) -> Plan:
    """Decide how `value` is stored, and find its size; nothing is written yet.

    Raises TypeError naming the attribute path that cannot be pickled, for instance
    `obj.config["lock"]: cannot pickle '_thread.lock' object`.

    Processes and threads: any thread, any number at once.
    """
    if len(sys.modules) != _modules:
        _meet_libraries()
    kind = type(value)
    if kind in user_reducers:
        return pickled.plan(value)
    return _planners.get(kind, pickled.plan)(value)


def load(buffer: Bytes, refs: Sequence[Any] = (), writable: bool = False) -> Any:
    """The value stored in `buffer`, as views of it wherever the type allows.

    `buffer` owns its memory: every view keeps it alive, and is read-only if the buffer is.
    `writable`: it is not, and memory that the value shares is to be opened for writing, too. `refs`
    are the references that plan() found, in the same order. Raises ObjectCorruptedError if the
    bytes are not what plan() described, and whatever importing or rebuilding the value's classes
    raises.

    Processes and threads: any thread, any number at once.
    """
    view = memoryview(buffer)
    kind, size = read_head(view)
    loader = _loaders.get(kind)
    if loader is None:
        raise corrupted(f"unknown kind {kind}")
    return loader(buffer, view, size, refs, writable)


def _plan_bytes(value: bytes | bytearray) -> Plan:
    size = HEADER + len(value)
    header = HEAD_RAW.pack(MAGIC, VERSION, RAW, size, type(value) is bytearray)
    return Plan(size, ((0, header), (HEADER, memoryview(value))))  # which cannot be resized now


def body(buffer: Bytes) -> tuple[int, int]:
    """(offset, length) of what is stored for the value itself: the items of an array, the bytes of
    a bytes object or buffer, an Arrow IPC stream; of a pickle all after the header."""
    kind, size = read_head(memoryview(buffer))
    start = HEADER
    if kind == TENSOR:
        start = HEAD_TENSOR.unpack_from(buffer)[-1]
    elif kind == BUFFER:
        start = HEAD_BUFFER.unpack_from(buffer)[-1]
    return start, size - start


def in_place_buffer_header(nbytes: int) -> bytes:
    """What stands before `nbytes` bytes that are written in place, at DATA_OFFSET."""
    return HEAD_BUFFER.pack(MAGIC, VERSION, BUFFER, DATA_OFFSET + nbytes, DATA_OFFSET)


def _load_buffer(
    buffer: Bytes, view: memoryview, size: int, refs: Sequence[Any], writable: bool
) -> memoryview:
    start = HEAD_BUFFER.unpack_from(view)[-1]
    if not HEADER <= start <= size:
        raise corrupted(f"a buffer at {start} of {size} bytes")
    return view[start:size]


def _load_bytes(
    buffer: Bytes, view: memoryview, size: int, refs: Sequence[Any], writable: bool
) -> bytes | bytearray:
    return (bytearray if HEAD_RAW.unpack_from(view)[-1] else bytes)(view[HEADER:size])


def _load_array(
    buffer: Bytes, view: memoryview, size: int, refs: Sequence[Any], writable: bool
) -> Any:
    _join("tensor")
    return _loaders[TENSOR](buffer, view, size, refs, writable)


def _load_arrow(
    buffer: Bytes, view: memoryview, size: int, refs: Sequence[Any], writable: bool
) -> Any:
    _join("arrow")
    return _loaders[ARROW](buffer, view, size, refs, writable)


def _meet_libraries() -> None:
    """What was imported since the last time may be a library whose values we know. Asking only when
    there are more or fewer modules than then saves a tenth of what a small array takes."""
    global _modules
    _modules = len(sys.modules)
    for library, module in tuple(_waiting.items()):
        if library in sys.modules:
            _join(module)
            _waiting.pop(library, None)


def _join(module: str) -> None:
    # The import registers reducers. Two threads here at once do the same thing twice.
    known = import_module(f".{module}", __package__)
    _planners.update(known.PLANNERS)
    _loaders.update(known.LOADERS)


_planners: dict[type, Callable[[Any], Plan]] = {
    bytes: _plan_bytes,
    bytearray: _plan_bytes,
}
_loaders: dict[int, Callable[[Bytes, memoryview, int, Sequence[Any], bool], Any]] = {
    RAW: _load_bytes,
    PICKLE: pickled.load,
    TENSOR: _load_array,
    ARROW: _load_arrow,
    BUFFER: _load_buffer,
}
