"""numpy arrays of fixed-size items: a header of 64 bytes, then the array's memory.

Arrow's own tensor format could carry the numeric ones among them. In microseconds:

                             10 float64           100 MB
                             write    read        write       read
    this header              1.6      1.0         2.1 + copy  1.1
    Arrow tensor IPC         2.5      2.2         1.6 + copy  2.1
    pickle 5 out of band     9.3      4.5         7.1 + copy  4.8

so the lean header serves all sizes, and with it all dtypes: structured, datetime64, strings,
big-endian. Arrays inside other values take the same way, as buffers beside the pickle.

Order of the axes is kept for any array without gaps in memory; one with gaps (a slice
with steps), with negative strides or broadcast is stored without them, copied through a
small buffer that stays in the cache.
"""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from . import pickled, reducers, sharing
from .layout import (
    DATA_OFFSET,
    HEAD_TENSOR,
    HEADER,
    MAGIC,
    TENSOR,
    VERSION,
    Bytes,
    Piece,
    Plan,
    Stream,
    aligned,
    corrupted,
)

_SMALL = 4096  # up to here joining header and memory costs less than a second write
_IN_BAND = 256  # up to here a copy in the pickle costs less than a buffer beside it
_CHUNK = 1 << 18

# Type numbers from here on are not numpy's classic ones: memory may hold pointers (StringDType),
# or their typestr means another type (ml_dtypes). Their own pickling knows.
_CLASSIC = 24


def plan(array: np.ndarray[Any, Any]) -> Plan:
    """A plan of kind TENSOR; of kind PICKLE if the items are objects, and for memory that lies in
    the store already, which a pickle can share."""
    dtype, nbytes = array.dtype, array.nbytes
    if dtype.hasobject or dtype.num >= _CLASSIC:
        return pickled.plan(array)
    if nbytes >= sharing.SHARE_BYTES or (nbytes and sharing.any_in_place()):
        shared = _shared(array) is not None
    else:
        shared = False  # as sharing.is_asked(), whose call would be felt by small arrays
    if shared:
        return pickled.plan(array)
    header, start = _header(array)
    size = start + nbytes
    if nbytes <= _SMALL:
        return Plan(size, ((0, header.ljust(start, b"\0") + _copy(array)),))
    return Plan(size, ((0, header), (start, _memory(array))))


def _header(array: np.ndarray[Any, Any], start: int = 0) -> tuple[bytes, int]:
    """The header of an array without gaps whose memory begins at `start`, or right after it."""
    dtype, flags, ndim = array.dtype, array.flags, array.ndim
    code = None if dtype.metadata else _typestr(dtype)
    extra = b""
    if code is None or ndim > 3 or not flags.forc:
        extra = pickle.dumps((dtype, array.shape, _dense_strides(array)), 5)
        check = zlib.crc32(extra) & 0xFFFF
        fields: tuple[Any, ...] = (0, b"C", check, len(extra), b"", 0, 0, 0)
    else:
        order = b"C" if flags.c_contiguous else b"F"
        fields = (ndim, order, 0, 0, code.encode(), *array.shape, *_NO_DIMENSIONS[ndim])
    start = start or aligned(HEADER + len(extra))
    size = start + array.nbytes
    return HEAD_TENSOR.pack(MAGIC, VERSION, TENSOR, size, *fields, start) + extra, start


def in_place_header(array: np.ndarray[Any, Any]) -> bytes:
    """What stands before the memory of such an array when it is written in place, at DATA_OFFSET.

    TypeError if its items are, or may be, Python objects; ValueError if the dtype is too long.
    """
    if array.dtype.hasobject or array.dtype.num >= _CLASSIC:
        raise TypeError(f"an array of dtype {array.dtype} cannot be shared while it is written")
    header, _ = _header(array, DATA_OFFSET)
    if len(header) > DATA_OFFSET:
        raise ValueError(f"the description of dtype {array.dtype} takes {len(header)} bytes")
    return header


def load(buffer: Bytes, view: memoryview, size: int, refs: Sequence[Any], writable: bool) -> Any:
    """The array, as a view of `buffer` that keeps it alive."""
    _, _, _, _, ndim, order, check, extra, code, a, b, c, start = HEAD_TENSOR.unpack_from(view)
    if not HEADER + extra <= start <= size or ndim > 3:
        raise corrupted(f"an array at {start} of {size} bytes")
    try:
        if extra:
            extension = view[HEADER : HEADER + extra]
            if check != zlib.crc32(extension) & 0xFFFF:
                raise ValueError("its description is not the one that was stored")
            dtype, shape, strides = pickle.loads(extension)
        else:
            dtype, shape, strides = _dtype(code), (a, b, c)[:ndim], None
        if dtype.hasobject or dtype.num >= _CLASSIC:
            raise TypeError(f"items of {dtype} would be pointers")
        array = np.ndarray(shape, dtype, buffer, start, strides, order.decode())
    except Exception as error:
        raise corrupted(f"not an array: {error}") from error
    if start + array.nbytes > size:
        raise corrupted(f"an array of {array.nbytes} bytes at {start} in {size} bytes")
    return array


def reduce_array(array: np.ndarray[Any, Any]) -> Any:
    """For arrays inside other values: numpy's constructor, over a buffer beside the pickle."""
    dtype = array.dtype
    if dtype.hasobject or dtype.num >= _CLASSIC:
        return array.__reduce_ex__(5)
    kind = (None if dtype.metadata else _typestr(dtype)) or dtype
    if sharing.is_asked(array.nbytes) and (shared := _shared(array)) is not None:
        memory, first = shared
        data: Any = pickle.PickleBuffer(memory)
        return np.ndarray, (array.shape, kind, data, first, array.strides)
    small = array.nbytes <= _IN_BAND
    make: Any = _small_array if small else np.ndarray
    data = _copy(array) if small else pickle.PickleBuffer(_memory(array))
    if array.flags.c_contiguous:
        return make, (array.shape, kind, data)
    return make, (array.shape, kind, data, 0, _dense_strides(array))


def reduce_subclass(array: np.ndarray[Any, Any]) -> Any:
    """For classes derived from numpy's, masked arrays included: the memory as a plain array, and
    the instance's attributes. numpy itself copies the memory into the pickle, and loses the
    attributes. A class that says itself how it is pickled is left to it."""
    cls, dtype = type(array), array.dtype
    if dtype.hasobject or dtype.num >= _CLASSIC:
        return NotImplemented
    if _pickles_itself(cls):
        sharing.refuse_in_place(_stretch(array)[0], cls)
        return NotImplemented
    attributes = {} if issubclass(cls, np.memmap) else getattr(array, "__dict__", {})
    plain = np.ndarray.view(array, np.ndarray)
    return _subclass, (cls, plain), attributes or None, None, None, _set_attributes


def _pickles_itself(cls: type) -> bool:
    known = (np.ndarray, np.ma.MaskedArray, object)
    return any(not _PICKLING.isdisjoint(vars(c)) for c in cls.__mro__ if c not in known)


def _subclass(cls: type, plain: np.ndarray[Any, Any]) -> Any:
    return np.ndarray.view(plain, cls)


def _set_attributes(array: np.ndarray[Any, Any], attributes: dict[str, Any]) -> None:
    array.__dict__.update(attributes)


def shared_array(view: memoryview) -> np.ndarray[Any, Any] | None:
    """A memoryview with gaps as an array that goes without a copy, since its memory is stored or
    being made in place; None if it is not, or its format is not that of an array. TypeError then
    if it is being made in place."""
    array: Any = np.asarray(view)
    if memoryview(array).format == view.format:
        return array if _shared(array) else None
    sharing.refuse_in_place(_stretch(array)[0], memoryview)
    return None


def _small_array(
    shape: tuple[int, ...], kind: Any, data: bytes, offset: int = 0, strides: Any = None
) -> np.ndarray[Any, Any]:
    """An array whose items stood in the pickle: read-only as all others, unless `writable`."""
    memory = bytearray(data) if pickled.loading.writable else data
    return np.ndarray(shape, kind, memory, offset, strides)


@lru_cache(256)
def _typestr(dtype: np.dtype[Any]) -> str | None:
    """The dtype as at most 8 characters that mean exactly it, or None."""
    code = dtype.str
    return code if len(code) <= 8 and np.dtype(code) == dtype and dtype.names is None else None


@lru_cache(256)
def _dtype(code: bytes) -> np.dtype[Any]:
    return np.dtype(code.rstrip(b"\0").decode())


def _axes(array: np.ndarray[Any, Any]) -> list[int]:
    """The axes from the slowest to the fastest in memory."""
    strides = array.strides
    return sorted(range(array.ndim), key=lambda axis: -abs(strides[axis]))


def _dense_strides(array: np.ndarray[Any, Any]) -> tuple[int, ...]:
    """The strides of the same array without gaps, in the same order of the axes."""
    strides, step = [0] * array.ndim, array.itemsize
    for axis in reversed(_axes(array)):
        strides[axis] = step
        step *= array.shape[axis]
    return tuple(strides)


def _copy(array: np.ndarray[Any, Any]) -> bytes:
    if array.flags.c_contiguous:
        return array.tobytes()
    return array.transpose(_axes(array)).tobytes()


def _memory(array: np.ndarray[Any, Any]) -> Any:
    """The array's memory as bytes; a Stream of copied chunks if it has gaps."""
    if not array.flags.c_contiguous:
        dense = array.flags.f_contiguous or array.strides == _dense_strides(array)
        array = array.transpose(_axes(array))
        if not dense:
            return Stream(array.nbytes, _Chunks(array))
    if not array.flags.writeable:
        return memory_at(array, array.__array_interface__["data"][0], array.nbytes)
    return array.reshape(-1).view(np.uint8)


def _shared(array: np.ndarray[Any, Any]) -> tuple[Any, int] | None:
    """What _stretch() gives if the array lies in the store."""
    memory, first = _stretch(array)
    return (memory, first) if sharing.find(memory, memory.nbytes) else None


def _stretch(array: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], int]:
    """All bytes from an array's first to its last in memory, gaps included, and where its first
    item is in them."""
    if not array.size:
        return np.empty(0, np.uint8), 0
    spans = [s * (n - 1) for s, n in zip(array.strides, array.shape, strict=True)]
    first = -sum(span for span in spans if span < 0)
    nbytes = first + sum(span for span in spans if span > 0) + array.itemsize
    return memory_at(array, array.__array_interface__["data"][0] - first, nbytes), first


def memory_at(owner: Any, address: int, nbytes: int) -> np.ndarray[Any, Any]:
    """A stretch of the memory that `owner` keeps, as bytes."""
    return np.asarray(_Memory(owner, address, nbytes))


class _Memory:
    """What memory_at() describes to numpy. Nobody writes to it, but it says that it
    can be written: of a read-only buffer the pickle would say so, and whoever asks for a writable
    value could not have one."""

    def __init__(self, owner: Any, address: int, nbytes: int) -> None:
        self.owner = owner
        self.__array_interface__ = {
            "version": 3,
            "shape": (nbytes,),
            "typestr": "|u1",
            "data": (address, False),
        }


class _Chunks:
    """The items of an array in C order, copied a cacheful at a time."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __iter__(self) -> Iterator[Piece]:
        offset = 0
        for chunk in np.nditer(  # type: ignore[call-overload]
            self.array,
            flags=["external_loop", "buffered"],
            op_flags=[["readonly", "contig"]],
            order="C",
            buffersize=max(1, _CHUNK // self.array.itemsize),
        ):
            yield offset, chunk.view(np.uint8)
            offset += chunk.nbytes


_PICKLING = {"__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__"}
_NO_DIMENSIONS = ((0, 0, 0), (0, 0), (0,), ())
PLANNERS = {np.ndarray: plan}
LOADERS = {TENSOR: load}
reducers.register_reducer(np.ndarray, reduce_array)
reducers.register_base_reducer(np.ndarray, reduce_subclass)
