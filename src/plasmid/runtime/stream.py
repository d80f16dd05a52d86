"""Tasks that yield: each item becomes a result of its own while the task runs.

Worker ─► Stream.run(generator) ─► drive ─► take(item): pack it, and yield_item() of the core
                                     └────► pause(): sleep until a taker has made room
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from plasmid._core import core
from plasmid.engine import packing
from plasmid.engine.dynamic import DynamicObjectRefGenerator
from plasmid.engine.running import RunningTask
from plasmid.exceptions import (
    ObjectStoreFullError,
    PlasmidError,
    StreamingGeneratorReplayInconsistentError,
)

Taker: TypeAlias = Callable[[Any], bool | None]
"""Gets an item. Whether to go on at once; False: after a pause; None: not at all."""

Pauser: TypeAlias = Callable[[Callable[[], bool] | None], bool]
"""Pauses; in a thread beside an event loop until the given function says so. Whether to go on."""

LOOK_SECONDS = 0.1
"""So often a pause in a thread looks whether its event loop still waits for it: nothing else could
tell it."""


def no_pause(is_left: Callable[[], bool] | None) -> bool:
    return True


class Stream:
    """What one attempt of a task yields. Items that former attempts gave out are made again, and
    skipped.

    Processes and threads: belongs to the thread that runs the task.
    """

    def __init__(self, arena: core.Arena, task: RunningTask) -> None:
        self._arena = arena
        self._task = task
        self._yielded = 0
        self.has_begun = False

    def run(self, items: Any) -> None:
        """Give out what the generator yields, until it ends or nobody wants more: then it is
        closed, as a generator is that goes out of scope."""
        self.has_begun = True
        if drive(self._task, items, self._take, self._pause):
            self._ended()

    async def run_async(self, items: AsyncIterator[Any]) -> None:
        """The same of an asynchronous generator, in the event loop of the caller."""
        self.has_begun = True
        if await _drive_async(items, self._take, self._pause):
            self._ended()

    def _ended(self) -> None:
        made = self._task.core.made
        if self._yielded < made:
            raise StreamingGeneratorReplayInconsistentError(
                f"{self._task.core.name}() was run again after its worker died: it yielded "
                f"{self._yielded} items, but {made} before"
            )

    def fail(self, error: PlasmidError) -> None:
        """The last item: what the generator raised."""
        self._task.core.yield_item(packing.pack_result(self._arena, error), True)

    def _take(self, item: Any) -> bool | None:
        task = self._task.core
        self._yielded += 1
        if self._yielded <= task.made:
            return True
        return task.yield_item(pack(self._arena, item, task.name, self._yielded), False)

    def _pause(self, is_left: Callable[[], bool] | None) -> bool:
        task = self._task
        if task.depth > 0:  # its taker may be below it on the stack
            return True
        task.lend()
        try:
            if is_left is None:
                with exposed(task):
                    return bool(task.core.await_room())
            while (go_on := task.core.await_room(LOOK_SECONDS)) is None:
                if is_left():
                    return False
            return go_on
        finally:
            task.take_back()


def gather(
    arena: core.Arena,
    task: RunningTask,
    items: Any,
    capture: Callable[[Exception], PlasmidError],
) -> DynamicObjectRefGenerator:
    """All that a generator yields, as references. What it raises, captured, is the last one."""
    refs: list[core.ObjectRef] = []

    def take(item: Any) -> bool:
        refs.append(seal(arena, pack(arena, item, task.core.name, len(refs) + 1)))
        return True

    try:
        drive(task, items, take, no_pause)
    except Exception as error:
        refs.append(packing.store(arena, capture(error)).seal(failed=True))
    return DynamicObjectRefGenerator(refs)


def seal(arena: core.Arena, packed: bytes | core.Pending) -> core.ObjectRef:
    return arena.put_bytes(packed) if isinstance(packed, bytes) else packed.seal()


def pack(arena: core.Arena, item: Any, name: str, number: int) -> bytes | core.Pending:
    try:
        return packing.pack_result(arena, item, name)
    except (TypeError, ObjectStoreFullError) as error:
        raise type(error)(f"item {number} of {name}(): {error}") from None


@contextmanager
def exposed(task: RunningTask) -> Iterator[None]:
    """Here a cancel interrupts."""
    try:
        task.expose()
        yield
    finally:
        task.shield()


def drive(task: RunningTask, items: Any, take: Taker, pause: Pauser) -> bool:
    """Hand each item of a generator, async or not, to `take`. False: it was closed before its end.
    A cancel interrupts the generator, and a pause."""
    if inspect.isasyncgen(items):
        try:
            return bool(task.run_coroutine(_drive_async(items, take, pause)))
        finally:
            task.shield()
    return _drive(task, iter(items), take, pause)


def _drive(task: RunningTask, items: Iterator[Any], take: Taker, pause: Pauser) -> bool:
    try:
        while True:
            try:
                task.expose()
                item = next(items)
            except StopIteration:
                return True
            finally:
                task.shield()
            room = take(item)
            del item  # while it pauses, only the store keeps the value
            if room is None or not (room or pause(None)):
                return False
    finally:
        if inspect.isgenerator(items):
            items.close()


async def _drive_async(items: AsyncIterator[Any], take: Taker, pause: Pauser) -> bool:
    import asyncio

    loop = asyncio.get_running_loop()
    is_left = False
    try:
        async for item in items:
            room = take(item)
            del item
            if room is None:
                return False
            # in a thread, so that the loop's other tasks go on
            if not (room or await loop.run_in_executor(None, pause, lambda: is_left)):
                return False
        return True
    finally:
        is_left = True
        await items.aclose()  # type: ignore[attr-defined]
