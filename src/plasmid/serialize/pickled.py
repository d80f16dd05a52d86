"""Everything that has no kind of its own: pickle 5, its large buffers beside the pickle.

C pickle goes first, since cloudpickle costs ten times as much on an int. It is stopped at the
first function or class that another process could not import, and cloudpickle starts over. The
call into Python that looks for those is made for functions, classes and instances of classes, not
for plain data; searching the finished pickle for `__main__` instead takes 0.3 ns a byte, which is
10 % of pickling a list of ints and 25 % of one of floats.

pandas goes this way too, its blocks and Arrow columns as out-of-band buffers. In milliseconds:

                                    10 float columns x 1e6      str column x 1e6
                                    write       read            write       read
    numpy copy of as many bytes     11.0                        1.5-1.8
    as an Arrow IPC stream          31 + 11     0.28-0.56       1.3         0.12-0.29
    this way                        11.5        0.05            1.6-2.5     0.05

and pandas' own reducers restore index, freq, attrs, names, flags and dtypes exactly, which
a conversion to Arrow does not.
"""

from __future__ import annotations

import copyreg
import pickle
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from types import FunctionType
from typing import Any

from . import by_value, reducers, sharing
from .layout import (
    CHECKED,
    HEAD_PICKLE,
    HEADER,
    MAGIC,
    PICKLE,
    VERSION,
    Bytes,
    Piece,
    Plan,
    Stream,
    aligned,
    corrupted,
)
from .recipe import reduce_exception

_SPECIAL = (FunctionType, type, BaseException)
PLACE = struct.Struct("<3Q")  # source, offset, length of a buffer


class _Chunks(list[Bytes]):
    """The file of a pickler: keeps each piece it writes, large bytes objects uncopied."""

    __slots__ = ()
    write = list.append


class _Refs(list[Any]):
    """The references met while pickling."""

    __slots__ = ()

    def reduce(self, ref: Any) -> Any:
        """A reference is stored as its position."""
        self.append(ref)
        return _ref_at, (len(self) - 1,)


class _Job(pickle.Pickler):
    """A C pickler and what it collects. Kept for reuse: making one takes longer than most use.

    No cycle leads back to it, so what it still knows of a value goes when it is dropped.
    """

    __slots__ = ("buffers", "chunks", "copyreg", "looked_at", "refs", "version")

    def __init__(self) -> None:
        self.chunks = _Chunks()
        self.buffers: list[pickle.PickleBuffer] = []
        self.refs = _Refs()
        self.version: object = None
        super().__init__(self.chunks, 5, buffer_callback=self.buffers.append)

    def update(self) -> None:
        """Take over the current reducers."""
        self.version = reducers.version()
        self.looked_at = (*_SPECIAL, *reducers.bases())
        self.copyreg = copyreg.dispatch_table.copy()
        self.dispatch_table = reducers.table(self.refs.reduce)

    def reducer_override(self, value: Any) -> Any:
        """Called by the C pickler for what is neither plain data nor known by now."""
        cls = type(value)
        if not issubclass(cls, self.looked_at) or cls in self.dispatch_table:
            return NotImplemented
        if not issubclass(cls, _SPECIAL):
            return reducers.reduce_by_base(value)
        if isinstance(value, BaseException):
            known = type(value) in self.dispatch_table
            return NotImplemented if known else reduce_exception(value)
        if not by_value.is_importable(value.__module__):
            raise pickle.PicklingError(f"{value.__module__} cannot be imported elsewhere")
        return NotImplemented


class _Loading(threading.local):
    """What is being unpickled by this thread, for functions that the pickle calls."""

    refs: Sequence[Any] = ()
    writable = False
    view: memoryview | None = None
    private: Bytes | None = None
    """`view`, copy-on-write; made for the first part that asks."""


_idle: list[_Job] = []
loading = _Loading()


def plan(value: Any) -> Plan:
    """A plan of kind PICKLE. TypeError if there is no way to pickle the value."""
    try:
        job = _idle.pop()
    except IndexError:
        job = _Job()
    if job.version is not reducers.version() or job.copyreg != copyreg.dispatch_table:
        job.update()
    try:
        job.dump(value)
    except Exception:
        return _plan_by_value(value)
    chunks = job.chunks
    if len(chunks) > 1 or job.buffers or job.refs:
        return _assemble(chunks, job.buffers, job.refs)
    # The common case, and the only one whose job is kept: its memo cannot have grown large.
    data = chunks.pop()
    job.clear_memo()
    _idle.append(job)
    size = HEADER + len(data)
    header = HEAD_PICKLE.pack(MAGIC, VERSION, PICKLE, size, len(data), 0, 0, _check(data))
    return Plan(size, ((0, header + data),))


def load(buffer: Bytes, view: memoryview, size: int, refs: Sequence[Any], writable: bool) -> Any:
    """The value of a stored object of kind PICKLE."""
    length, buffers, references, check = HEAD_PICKLE.unpack_from(view)[4:]
    start = HEADER + PLACE.size * buffers
    if start + length > size:
        raise corrupted(f"a pickle of {length} bytes with {buffers} buffers in {size} bytes")
    if references != len(refs):
        raise corrupted(f"it holds {references} references, {len(refs)} were given")
    data = view[start : start + length]
    if check and check != _check(data):
        raise corrupted("its pickle is not the one that was stored")
    try:
        if not buffers and not references and not writable:
            return pickle.loads(data)
        outside = _out_of_band(view, size, buffers, refs, writable)
        before = loading.__dict__.copy()
        loading.__dict__.update(refs=refs, writable=writable, view=view, private=None)
        try:
            return pickle.loads(data, buffers=outside)
        finally:
            loading.__dict__.clear()
            loading.__dict__.update(before)
    except (pickle.UnpicklingError, EOFError) as error:
        raise corrupted(str(error)) from error


def _plan_by_value(value: Any) -> Plan:
    try:
        return _dump_by_value(value)
    except Exception:
        from . import exported, failure

    try:
        return _dump_by_value(value, exported.reduce_exported)
    except Exception as error:
        raise failure.explain(value, error, exported.reduce_exported) from error


def _dump_by_value(value: Any, last_resort: reducers.Reducer | None = None) -> Plan:
    chunks, refs = _Chunks(), _Refs()
    buffers: list[pickle.PickleBuffer] = []
    table = reducers.table(refs.reduce)
    by_value.pickler(chunks, table, buffers.append, last_resort).dump(value)
    return _assemble(chunks, buffers, refs)


def _assemble(chunks: list[Bytes], buffers: list[pickle.PickleBuffer], refs: list[Any]) -> Plan:
    pieces: list[Piece] = []
    owners: dict[Any, int] = {}  # reference whose memory is shared -> its place among all, from 1
    start = offset = HEADER + PLACE.size * len(buffers)
    for chunk in chunks:
        pieces.append((offset, memoryview(chunk)))  # a view: a bytearray cannot be resized now
        offset += len(chunk)
    length = offset - start
    places: list[bytes] = []
    for buffer in buffers:
        data: Any = buffer.raw()
        whole = data
        if isinstance(data.obj, Stream):
            data = data.obj.settled()
            whole = data.whole
        if whole is not None and (found := sharing.find(whole, data.nbytes)):
            owner = owners.setdefault(found[0], len(refs) + len(owners) + 1)
            places.append(PLACE.pack(owner, found[1], data.nbytes))
            continue
        offset = aligned(offset)
        pieces.append((offset, data))
        places.append(PLACE.pack(0, offset, data.nbytes))
        offset += data.nbytes
    refs = [*refs, *owners]
    check = _check(b"".join(chunks)) if length <= CHECKED else 0
    header = HEAD_PICKLE.pack(
        MAGIC, VERSION, PICKLE, offset, length, len(buffers), len(refs), check
    )
    pieces.insert(0, (0, header + b"".join(places)))
    return Plan(offset, pieces, refs)


def _check(data: Bytes) -> int:
    return zlib.crc32(data) if len(data) <= CHECKED else 0


def _out_of_band(
    view: memoryview, size: int, count: int, refs: Sequence[Any], writable: bool
) -> list[Bytes]:
    buffers = []
    for source, offset, length in places(view, count):
        if source > len(refs):
            raise corrupted(f"a buffer in reference {source} of {len(refs)}")
        if source:
            buffers.append(sharing.open(refs[source - 1], offset, length, writable))
            continue
        if offset + length > size:
            raise corrupted(f"a buffer of {length} bytes at {offset} in {size} bytes")
        buffers.append(view[offset : offset + length])
    return buffers


def places(view: memoryview, count: int) -> Iterator[tuple[int, int, int]]:
    """(source, offset, length) of each out-of-band buffer; the table lies inside `view`."""
    return PLACE.iter_unpack(view[HEADER : HEADER + PLACE.size * count])


def _ref_at(index: int) -> Any:
    try:
        return loading.refs[index]
    except IndexError:
        raise corrupted(f"reference {index} of {len(loading.refs)}") from None


def private(part: memoryview) -> Bytes:
    """The bytes of a buffer beside the pickle that is being loaded, writable and copy-on-write:
    one mapping for all such parts of an object. A copy if they are not in the store."""
    whole, nbytes = loading.view, part.nbytes
    if whole is not None and part.obj is whole.obj:
        if loading.private is None:
            loading.private = sharing.private(whole, whole.nbytes) or bytearray(whole)
        first = _address(part) - _address(whole)
        return memoryview(loading.private)[first : first + nbytes]
    return sharing.private(part, nbytes) or bytearray(part)


def _address(view: memoryview) -> int:
    import numpy as np

    address: int = np.frombuffer(view, np.uint8).__array_interface__["data"][0]
    return address
