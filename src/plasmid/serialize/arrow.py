"""pyarrow tables, record batches and arrays: an Arrow IPC stream, readable by any Arrow library.

Arrow's writer calls write() of a Python file with each buffer of the data as it is, uncopied, and
cut to the slice that the value shows: those buffers become the pieces of the plan. Only what
a slice forces it to shift (the offsets of strings, bitmaps) is copied to temporary memory.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from . import pickled, reducers, sharing
from .layout import (
    ARROW,
    CHECKED,
    HEAD_ARROW,
    HEADER,
    MAGIC,
    VERSION,
    Bytes,
    Piece,
    Plan,
    Stream,
    corrupted,
)

_TABLE, _BATCH, _ARRAY, _CHUNKED = range(4)
_LONG_VIEW = 256  # bytes a string that a view may keep without being looked at
_SMALL = 4096  # up to here joining the pieces costs less than writing them one by one
_VIEWS: dict[int, Any] = {}
if hasattr(pa, "string_view"):  # from pyarrow 16 on
    _VIEWS = {
        pa.string_view().id: pa.large_string(),
        pa.binary_view().id: pa.large_binary(),
    }
_OPTIONS = pa.ipc.IpcWriteOptions(allow_64bit=True)


def plan(value: Any) -> Plan:
    """A plan of kind ARROW; of kind PICKLE for types whose class only their pickle keeps, and for
    memory that lies in the store already, which a pickle can share."""
    shape = _shape_of(value)
    tabular = _compact(value if shape in (_TABLE, _BATCH) else _as_column(value))
    by_pickle = any(map(_is_python_type, tabular.schema.types)) or _is_in_store(tabular)
    stream = None if by_pickle else _encode(tabular)
    if stream is None:
        return pickled.plan(value)
    size = HEADER + stream.nbytes
    header = HEAD_ARROW.pack(MAGIC, VERSION, ARROW, size, shape)
    if stream.nbytes <= _SMALL:
        return Plan(size, ((0, header + _joined(stream)),))
    return Plan(size, ((0, header), (HEADER, stream)))


def load(buffer: Bytes, view: memoryview, size: int, refs: Sequence[Any], writable: bool) -> Any:
    """The value; its buffers are views of `buffer` that keep it alive."""
    shape = HEAD_ARROW.unpack_from(view)[4]
    try:
        return _decode(view[HEADER:size], shape)
    except (pa.ArrowException, StopIteration, OSError, LookupError, UnicodeError) as error:
        raise corrupted(f"not an Arrow IPC stream: {error}") from error


def reduce_array(array: Any) -> Any:
    """For arrays inside other values.

    pyarrow's own pickling stores whole buffers, out of band and uncopied; but a small slice
    would drag along all of what it was cut from, so slices go as an IPC stream.
    """
    if sharing.is_asked(_shown_bytes(array)) and _has_shared(array):
        return _by_buffers(array)
    array = _compact_column(array)
    if array.get_total_buffer_size() <= 1.1 * _shown_bytes(array) + 64:
        return _by_buffers(array)
    column = _as_column(array)
    stream = None if _is_python_type(array.type) else _encode(column)
    if stream is None:
        return _by_buffers(array)
    return _decode, (pickle.PickleBuffer(stream), _ARRAY)


def _compact(tabular: Any) -> Any:
    """The same without what its columns of views do not show."""
    for index, kind in enumerate(tabular.schema.types):
        if _without_views(kind):
            column = _compact_column(tabular.column(index))
            tabular = tabular.set_column(index, tabular.schema.field(index), column)
    return tabular


def _compact_column(column: Any) -> Any:
    """Neither a slice nor Arrow's writer cuts the bytes that views of strings refer to."""
    dense = _without_views(column.type)
    if dense is None:
        return column
    if column.get_total_buffer_size() <= _LONG_VIEW * len(column) + _SMALL:
        return column  # not worth a look: it cannot drag along much
    try:
        shown = column.cast(dense)
    except pa.ArrowNotImplementedError:  # before pyarrow 18
        return column
    return shown.cast(column.type) if shown.nbytes < column.get_total_buffer_size() / 2 else column


def _shown_bytes(value: Any) -> int:
    """What a slice or table shows of its buffers."""
    try:
        return int(value.nbytes)
    except pa.ArrowTypeError:  # of views, before pyarrow 19
        return int(value.get_total_buffer_size())


def _without_views(kind: Any) -> Any:
    return _VIEWS.get(kind.id)


def _is_in_store(tabular: Any) -> bool:
    if not sharing.is_asked(_shown_bytes(tabular)):
        return False
    chunks = (
        chunk
        for column in tabular.columns
        for chunk in (column.chunks if isinstance(column, pa.ChunkedArray) else (column,))
    )
    return any(map(_has_shared, chunks))


def _has_shared(array: Any) -> bool:
    return any(buffer and sharing.find(buffer, buffer.size) for buffer in array.buffers())


def _by_buffers(array: Any) -> Any:
    """pyarrow's own pickling, whole buffers beside the pickle; checked when it is read, as a stream
    is: pyarrow takes lengths and buffers on trust."""
    restore, arguments = array.__reduce__()
    return _checked, (restore, arguments)


def _checked(restore: Any, arguments: Any) -> Any:
    array = restore(*arguments)
    _validate(array)
    return array


def _validate(value: Any) -> None:
    """That lengths and buffers fit: what points outside is found here, not by a crash later.

    In values of up to CHECKED bytes everything is looked at. In larger ones the number, the size
    and the first and last offset of each buffer; offsets between those, string views and indices of
    dictionaries are taken on trust. For 1e6 strings a look at their offsets alone takes 340 us, and
    a process that has not touched them yet 4 ms for its page faults; the whole get takes 50 us.
    """
    value.validate()
    if value.get_total_buffer_size() <= CHECKED:
        value.validate(full=True)


class _Pieces:
    """A file for Arrow's writer: keeps what it is given, in order."""

    closed = False

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.nbytes = 0

    def write(self, data: Any) -> None:
        """Keep `data`: a bytes object, or a pyarrow Buffer over the value's own memory."""
        view = memoryview(data)
        self.pieces.append((self.nbytes, view))
        self.nbytes += view.nbytes

    def tell(self) -> int:
        """The length so far."""
        return self.nbytes

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing to release."""


def _encode(tabular: Any) -> Stream | None:
    """The IPC stream of a table or batch, None if Arrow has no IPC form for it."""
    file = _Pieces()
    try:
        with (
            pa.PythonFile(file, mode="w") as sink,
            pa.ipc.new_stream(sink, tabular.schema, options=_OPTIONS) as writer,
        ):
            writer.write(tabular)
    except pa.ArrowException:
        return None
    return Stream(file.nbytes, file.pieces)


def _decode(buffer: Bytes, shape: int) -> Any:
    with pa.ipc.open_stream(pa.py_buffer(buffer)) as reader:
        tabular = reader.read_next_batch() if shape in (_BATCH, _ARRAY) else reader.read_all()
    _validate(tabular)
    if shape in (_TABLE, _BATCH):
        return tabular
    return tabular.column(0)


def _joined(stream: Stream) -> bytes:
    return b"".join(part for _, part in stream.pieces)


def _shape_of(value: Any) -> int:
    if isinstance(value, pa.Table):
        return _TABLE
    if isinstance(value, pa.RecordBatch):
        return _BATCH
    return _CHUNKED if isinstance(value, pa.ChunkedArray) else _ARRAY


def _as_column(value: Any) -> Any:
    wrap = pa.Table if isinstance(value, pa.ChunkedArray) else pa.RecordBatch
    return wrap.from_arrays([value], names=[""])


def _is_python_type(kind: Any) -> bool:
    """Is there a type inside that is a Python class: a reader may not have it registered."""
    if isinstance(kind, pa.ExtensionType):
        return True
    if isinstance(kind, pa.DictionaryType):
        return _is_python_type(kind.value_type)
    return any(_is_python_type(kind.field(index).type) for index in range(kind.num_fields))


def _array_types(cls: Any = pa.Array) -> Iterable[type]:
    yield cls
    for child in cls.__subclasses__():
        yield from _array_types(child)


PLANNERS = dict.fromkeys((pa.Table, pa.RecordBatch, pa.ChunkedArray, *_array_types()), plan)
LOADERS = {ARROW: load}
for _cls in _array_types():
    reducers.register_reducer(_cls, reduce_array)
