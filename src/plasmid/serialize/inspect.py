"""How a stored object is stored, read from its header and tables: no value is rebuilt."""

from __future__ import annotations

import pickletools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from . import pickled
from .layout import (
    ARROW,
    BUFFER,
    DATA_OFFSET,
    HEAD_PICKLE,
    HEAD_RAW,
    HEAD_TENSOR,
    HEADER,
    PICKLE,
    RAW,
    TENSOR,
    Bytes,
    corrupted,
    read_head,
)

_NAMED = 1 << 16  # bytes of a pickle up to which the classes it names are looked up
_WORTH_SAYING = 1024  # bytes in a pickle that cost something at each get
_BYTES = (bytes, bytearray)
_OF_BYTES = (
    "bytes, bytearray and array.array objects own their memory: get copies it into a new one; a "
    "numpy array or memoryview of the same bytes is read where it is"
)
_OF_TORCH = (
    "torch knows no read-only memory: get gives tensors over a private mapping of the object, and "
    "what is written to them is seen by nobody else"
)


@dataclass(frozen=True)
class Part:
    """One stretch of a stored value."""

    what: str
    nbytes: int
    source: Any = None
    """The reference to the object whose memory it is; None: this object's own."""
    copied: bool = True
    """Whether `put` copied it."""
    zero_copy: bool = True
    """Whether `get` gives a view of it."""
    offset: int = 0
    """Where it begins in the stored bytes of the object whose memory it is."""

    @property
    def alignment(self) -> int:
        """Its address is a multiple of this, up to the 64 that every object is aligned to."""
        return min(64, self.offset & -self.offset or 64)


@dataclass(frozen=True)
class Explanation:
    """What `plasmid.explain` returns; `str()` of it is for people.

    kind     how the value is stored
    nbytes   stored bytes of this object, header included
    parts    what they consist of, shared memory of other objects included
    names    classes and functions that `get` calls to rebuild the value
    reasons  what keeps it from being stored and read without copies
    """

    kind: str
    nbytes: int
    parts: tuple[Part, ...] = ()
    names: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def copied(self) -> int:
        """Bytes of the value that `put` copied."""
        return sum(part.nbytes for part in self.parts if part.copied)

    @property
    def shared(self) -> int:
        """Bytes of the value that are memory of other objects."""
        return sum(part.nbytes for part in self.parts if part.source is not None)

    @property
    def zero_copy(self) -> bool:
        """Whether `get` copies nothing worth mentioning."""
        return all(p.zero_copy or p.nbytes < _WORTH_SAYING for p in self.parts)

    def __str__(self) -> str:
        lines = [
            f"{self.kind}: {self.nbytes:,} bytes stored, {self.copied:,} copied by put, "
            f"{self.shared:,} shared with other objects"
        ]
        for part in self.parts:
            where = "here" if part.source is None else f"in {part.source!r}"
            how = "copied by put" if part.copied else "not copied"
            read = "a view on get" if part.zero_copy else "rebuilt on get"
            lines.append(
                f"  {part.nbytes:>14,} bytes  {part.what} {where}, {how}, {read}, "
                f"aligned to {part.alignment}"
            )
        if self.names:
            lines.append(f"  rebuilt by {', '.join(self.names)}")
        lines += [f"  note: {reason}" for reason in self.reasons]
        return "\n".join(lines)


def explain_small(value: Any, nbytes: int) -> Explanation:
    """Of a value that the store keeps in its table entry."""
    return Explanation(
        f"{type(value).__name__} in the table entry",
        nbytes,
        (Part("tagged bytes", nbytes, zero_copy=False),),
    )


def describe(buffer: Bytes, refs: Sequence[Any]) -> Explanation:
    """Of the stored bytes of any other object, and the references that it contains.

    ObjectCorruptedError if the header or a table is damaged.
    """
    view = memoryview(buffer)
    kind, size = read_head(view)
    if kind == PICKLE:
        return _describe_pickle(view, size, refs)
    if kind == TENSOR:
        start = HEAD_TENSOR.unpack_from(view)[-1]
        return _in_one("numpy array", "items", size, start)
    if kind == BUFFER:
        return _in_one("buffer", "bytes", size, DATA_OFFSET)
    if kind == ARROW:
        return _in_one("Arrow IPC stream", "columns", size, HEADER)
    if kind == RAW:
        part = Part("bytes", size - HEADER, zero_copy=False, offset=HEADER)
        mutable = HEAD_RAW.unpack_from(view)[-1]
        return Explanation("bytearray" if mutable else "bytes", size, (part,), reasons=(_OF_BYTES,))
    raise corrupted(f"unknown kind {kind}")


def _in_one(kind: str, what: str, size: int, start: int) -> Explanation:
    in_place = start == DATA_OFFSET
    made = f"{kind}, made in place" if in_place else kind
    part = Part(what, size - start, copied=not in_place, offset=start)
    return Explanation(made, size, (part,))


def _describe_pickle(view: memoryview, size: int, refs: Sequence[Any]) -> Explanation:
    length, count = HEAD_PICKLE.unpack_from(view)[4:6]
    start = HEADER + pickled.PLACE.size * count
    if start + length > size:
        raise corrupted(f"a pickle of {length} bytes with {count} buffers in {size} bytes")
    parts = [Part("pickle", length, zero_copy=False, offset=start)]
    for source, offset, nbytes in pickled.places(view, count):
        if source > len(refs):
            raise corrupted(f"a buffer in reference {source} of {len(refs)}")
        if source:
            parts.append(Part("buffer", nbytes, refs[source - 1], False, offset=offset))
        else:
            parts.append(Part("buffer", nbytes, offset=offset))
    reasons = []
    if length >= _WORTH_SAYING:
        reasons.append(
            f"{length:,} bytes are in the pickle itself (numbers, strings, bytes and bytearrays, "
            "lists, objects, arrays up to 256 bytes): they are rebuilt by every get"
        )
    operations = _operations(view[start : start + length]) if length <= _NAMED else []
    names = tuple(dict.fromkeys(_names(operations)))
    if f"{__package__}.stdlib._array" in names or any(
        isinstance(found, _BYTES) and len(found) >= _WORTH_SAYING for _, found in operations
    ):
        reasons.append(_OF_BYTES)
    if f"{__package__}.torch._storage" in names:
        reasons.append(_OF_TORCH)
    if any(name.startswith("numpy.") and name.endswith("._reconstruct") for name in names):
        reasons.append(
            "an array of Python objects, or of a class that says itself how it is pickled, is "
            "pickled by numpy: its items are rebuilt by every get"
        )
    kind = "pickle"
    if count:
        kind += f" with {count} buffer{'s' * (count > 1)} beside it"
    return Explanation(kind, size, tuple(parts), names, (*reasons,))


def _operations(pickle: memoryview) -> list[tuple[str, Any]]:
    """What a pickle consists of: (name, argument)."""
    try:
        return [(found.name, argument) for found, argument, _ in pickletools.genops(bytes(pickle))]
    except (ValueError, UnicodeDecodeError) as error:
        raise corrupted(f"not a pickle: {error}") from error


def _names(operations: list[tuple[str, Any]]) -> Iterator[str]:
    """The classes and functions that a pickle refers to."""
    memo: list[Any] = []
    pushed: list[Any] = ["", ""]  # module and name stand on top of the pickle's stack
    for operation, argument in operations:
        if operation == "STACK_GLOBAL":
            yield ".".join(map(str, pushed[-2:]))
        if operation == "MEMOIZE":
            memo.append(pushed[-1])
        elif operation in ("BINGET", "LONG_BINGET"):
            pushed.append(memo[argument] if argument < len(memo) else None)
        else:
            pushed.append(argument)
