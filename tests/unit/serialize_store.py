"""A store of one object in ordinary memory: what plasmid.serialize needs, and nothing more."""

from __future__ import annotations

from typing import Any

import numpy as np

from plasmid import serialize


class Memory:
    """A Writer that insists on its contract; unwritten bytes stay 0xAA, so nobody relies on 0."""

    def __init__(self, nbytes: int) -> None:
        whole = np.full(nbytes + 64, 0xAA, np.uint8)
        start = -whole.ctypes.data % 64
        self.array = whole[start : start + nbytes]
        self.end = 0

    def write(self, offset: int, data: Any) -> None:
        view = memoryview(data).cast("B")
        assert offset >= self.end, "offsets rise, and no byte is written twice"
        assert offset + view.nbytes <= len(self.array), "within the announced size"
        self.end = offset + view.nbytes
        self.array[offset : self.end] = view

    def buffer(self) -> memoryview:
        return memoryview(self.array).toreadonly()


def stored(value: Any) -> tuple[memoryview, list[Any]]:
    """The bytes stored for a value, and its references. Written twice, to the same effect."""
    plan = serialize.plan(value)
    memory, again = Memory(plan.nbytes), Memory(plan.nbytes)
    plan.write(memory)
    plan.write(again)
    assert memory.end == plan.nbytes
    assert np.array_equal(memory.array, again.array)
    return memory.buffer(), list(plan.refs)


def round_trip(value: Any) -> Any:
    return serialize.load(*stored(value))


def address(buffer: Any) -> tuple[int, int]:
    """The first address of a buffer or a dense array, and the one after its last."""
    array = buffer if isinstance(buffer, np.ndarray) else np.frombuffer(buffer, np.uint8)
    return array.ctypes.data, array.ctypes.data + array.nbytes


def lies_in(part: Any, whole: memoryview) -> bool:
    """Is it a view of that memory, or was it copied?"""
    low, high = address(whole)
    return all(low <= place <= high for place in address(part))
