"""The stored format: a header of 64 bytes, then a body that its kind describes.

All integers are little-endian. Offsets count from the first byte of the header, which lies on
a 64-byte boundary; so does the memory of every array and every out-of-band buffer.

    +0   magic    4 bytes  b"PLSM"
    +4   version  u16      VERSION; another one is refused
    +6   kind     u16      RAW, PICKLE, TENSOR, ARROW or BUFFER
    +8   size     u64      of everything stored, header included
    +16  48 bytes          by kind; bytes not named below are zero

    RAW     a bytes object, or a bytearray
    +16  mutable  u64      1 of a bytearray
    +64  its bytes, to the end

    PICKLE  any value
    +16  pickle   u64      length of the pickle
    +24  buffers  u64      out-of-band buffers
    +32  refs     u64      references to other objects that the value holds, and after them those
                           to objects whose memory it shares
    +40  check    u32      CRC-32 of a pickle of up to CHECKED bytes; 0 = not known. A damaged
                           pickle could do anything, crashing the interpreter included
    +64  per buffer        source u64, offset u64, length u64
    then the pickle (protocol 5), then the buffers whose source is 0. Those with source k lie in
    the stored bytes of the k-th reference, at offset from the first of them

    TENSOR  a numpy.ndarray
    +16  ndim     u8       dimensions, if the header describes the array alone
    +17  order    char     "C" or "F"
    +18  check    u16      of the extension: the low half of its CRC-32
    +20  extra    u32      length of the extension, 0 if there is none
    +24  dtype    8 bytes  the array interface's typestr, such as "<f8", padded with zeros
    +32  shape    3 x i64  unused dimensions are zero
    +56  data     u64      offset of the array's memory
    +64  extension         pickle of (dtype, shape, strides): for more than 3 dimensions, for
                           other dtypes (structured, subarray) and other orders of the axes
    then, at data, the memory of the array, without gaps. An array made in place has data = 4096

    ARROW   a pyarrow Table, RecordBatch, Array or ChunkedArray
    +16  shape    u64      which of them, in this order, from 0
    +64  an Arrow IPC stream; arrays are its only column

    BUFFER  bytes that were written in place; read as a memoryview
    +16  data     u64      offset of the first
    then, at data, the bytes
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol, TypeAlias

from plasmid.exceptions import ObjectCorruptedError

MAGIC: Final = b"PLSM"
VERSION: Final = 2
RAW, PICKLE, TENSOR, ARROW, BUFFER = 1, 2, 3, 4, 5

HEADER: Final = 64
HEAD: Final = struct.Struct("<4sHHQ48x")
HEAD_RAW: Final = struct.Struct("<4sHHQQ40x")
HEAD_PICKLE: Final = struct.Struct("<4sHHQQQQI20x")
HEAD_TENSOR: Final = struct.Struct("<4sHHQBcHI8sqqqQ")
HEAD_ARROW: Final = struct.Struct("<4sHHQQ40x")
HEAD_BUFFER: Final = struct.Struct("<4sHHQQ40x")

CHECKED: Final = 1 << 14
"""Longer pickles are taken on trust: a CRC of them would be felt."""

DATA_OFFSET: Final = 4096
"""Of data written in place: on a page of its own."""

# Anything that memoryview() takes; typing has a name for it only from Python 3.12 on.
Bytes: TypeAlias = Any
Piece: TypeAlias = tuple[int, Bytes]


class Writer(Protocol):
    """Where a plan is written to: the stored bytes of one new object."""

    def write(self, offset: int, data: Bytes) -> None:
        """Copy the C-contiguous `data` to `offset`."""


class Stream(bytearray):
    """Memory that is to be stored in one stretch, but lies in several pieces now.

    Stands for that memory in a Plan. `PickleBuffer(Stream(...))` is what a reducer returns for
    it, hence the one byte that it really holds; whoever unpickles gets the whole stretch. So
    the pieces are never joined in a copy first. That byte can be written: of a read-only buffer
    the pickle would say so, and whoever asks for a writable value could not have one.
    """

    def __init__(self, nbytes: int, pieces: Iterable[Piece]) -> None:
        """`nbytes` in all; offsets of `pieces` count from the first byte of the stretch."""
        super().__init__(1)
        self.nbytes = nbytes
        self.pieces = pieces

    def settled(self) -> Stream:
        """What to store, once the whole value has been pickled."""
        return self

    @property
    def whole(self) -> Bytes | None:
        """The memory, if it lies in one piece now."""
        pieces = self.pieces
        return pieces[0][1] if isinstance(pieces, tuple) and len(pieces) == 1 else None


class Plan:
    """What will be stored for one value: its size and its pieces, none of them copied yet.

    nbytes  everything that will be stored, header included
    refs    the references found inside the value; the stored bytes name them by position
    pieces  (offset, memory) by rising offset; the gaps between them need not be written

    Processes and threads: a plan belongs to the thread that made it. It borrows the memory of
    the value, which nobody may change before write() has returned. It may be written again.
    """

    __slots__ = ("nbytes", "pieces", "refs")

    def __init__(self, nbytes: int, pieces: Sequence[Piece], refs: Sequence[Any] = ()) -> None:
        self.nbytes = nbytes
        self.pieces = pieces
        self.refs = refs

    def write(self, target: Writer) -> None:
        """Copy every piece to its place, each byte once, by rising offset."""
        write = target.write
        for offset, data in self.pieces:
            if type(data) is Stream:
                for inner, part in data.pieces:
                    write(offset + inner, part)
            else:
                write(offset, data)


def aligned(offset: int) -> int:
    """The first 64-byte boundary at or after `offset`."""
    return (offset + 63) & -64


def corrupted(what: str) -> ObjectCorruptedError:
    """The error for stored bytes that cannot be what this package wrote."""
    return ObjectCorruptedError(f"load: the stored bytes are damaged: {what}")


def read_head(view: memoryview) -> tuple[int, int]:
    """(kind, size) of stored bytes, whose length `size` does not exceed. ObjectCorruptedError."""
    if view.nbytes < HEADER:
        raise corrupted(f"{view.nbytes} bytes are less than a header")
    magic, version, kind, size = HEAD.unpack_from(view)
    if magic != MAGIC:
        raise corrupted(f"they begin with {magic!r}")
    if version != VERSION:
        raise corrupted(f"format version {version}, not {VERSION}")
    if not HEADER <= size <= view.nbytes:
        raise corrupted(f"the header says {size} bytes, there are {view.nbytes}")
    return kind, size
