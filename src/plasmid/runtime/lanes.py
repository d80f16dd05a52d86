"""Where the calls of an actor run that may run several at a time."""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeAlias

from plasmid._core import core
from plasmid.engine import packing
from plasmid.engine.running import die, running
from plasmid.runtime.performer import Prepared

Unpacked: TypeAlias = packing.Arguments | None


class Performs(Protocol):
    """The actor, to its lanes."""

    @property
    def is_ending(self) -> bool:
        """Whether no further call is to begin: those that have not fail with the actor."""

    def perform(self, call: core.Running, *, take: bool, unpacked: Unpacked) -> object:
        """Run a call to its end in this thread."""

    async def perform_async(
        self, call: core.Running, unpacked: Unpacked, stop: Callable[[], object]
    ) -> None:
        """Run a call to its end in this event loop. `stop()` cancels it, from any thread."""


class ThreadLane:
    """`limit` threads."""

    def __init__(self, host: Performs, name: str | None, limit: int) -> None:
        self._host = host
        self._pool = ThreadPoolExecutor(limit, thread_name_prefix=f"plasmid {name or 'default'}")

    def submit(self, call: core.Running, unpacked: Unpacked, done: Callable[[], object]) -> None:
        self._pool.submit(self._run, call, unpacked, done)

    def _run(self, call: core.Running, unpacked: Unpacked, done: Callable[[], object]) -> None:
        try:
            self._host.perform(call, take=False, unpacked=unpacked)
            running.task = None
        except BaseException:
            die()
        done()


class EventLoop:
    """An event loop in a thread, and the coroutines of calls."""

    def __init__(
        self, host: Performs, name: str | None, selector: selectors.BaseSelector | None
    ) -> None:
        self._host = host
        self._loop = asyncio.SelectorEventLoop(selector)
        self._running: set[asyncio.Task[None]] = set()  # a loop keeps no reference to its tasks
        threading.Thread(
            target=self._live, name=f"AsyncIO Thread: {name or 'default'}", daemon=True
        ).start()

    def _live(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        except BaseException:
            die()

    def make(self, prepared: Prepared) -> Any:
        """The instance, made where its methods run."""

        async def construct() -> Any:
            return prepared.function(*prepared.args, **prepared.kwargs)

        return asyncio.run_coroutine_threadsafe(construct(), self._loop).result()

    def _start(self, call: core.Running, unpacked: Unpacked, done: Callable[[], object]) -> None:
        """In the loop's thread."""
        task = self._loop.create_task(self._run(call, unpacked))

        def over(ended: asyncio.Task[None]) -> None:
            self._running.discard(ended)
            if not ended.cancelled() and ended.exception() is not None:
                die()
            done()

        self._running.add(task)
        task.add_done_callback(over)

    async def _run(self, call: core.Running, unpacked: Unpacked) -> None:
        this = asyncio.current_task()
        assert this is not None
        await self._host.perform_async(
            call, unpacked, lambda: self._loop.call_soon_threadsafe(this.cancel)
        )


class LoopLane(EventLoop):
    """An event loop that is given its calls, of which `limit` run."""

    def __init__(self, host: Performs, name: str | None, limit: int) -> None:
        super().__init__(host, name, None)
        self._room = asyncio.Semaphore(limit)

    def submit(self, call: core.Running, unpacked: Unpacked, done: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(self._start, call, unpacked, done)

    async def _run(self, call: core.Running, unpacked: Unpacked) -> None:
        async with self._room:
            await super()._run(call, unpacked)


class CallLoop(EventLoop):
    """An event loop that takes its calls itself, from `begin` on, while less than `limit` run.

    A call that comes while the loop is about to sleep costs no change of threads.
    """

    def __init__(self, host: Performs, limit: int, bell: core.CallBell) -> None:
        self._bell = bell
        self._limit = limit
        self._takes = False
        super().__init__(host, None, _CallSelector(self))

    def begin(self) -> None:
        def start_taking() -> None:
            self._takes = True

        self._loop.call_soon_threadsafe(start_taking)

    def look(self, fd: int, timeout: float | None) -> bool:
        """Begin the calls that have come, or else sleep until one has, `fd` is readable, `timeout`
        seconds have passed. False: no calls are wanted now, and this has not slept."""
        if not self._has_room():
            return False
        if not self._take() and self._takes and timeout != 0:
            self._bell.poll(fd, timeout)
            self._take()
        return True

    def _take(self) -> bool:
        before = len(self._running)
        while self._has_room() and (call := self._bell.look()) is not None:
            self._start(call, None, _nothing)
        if self._bell.is_over:
            self._takes = False
            self._bell.dismiss()
        return len(self._running) > before

    def _has_room(self) -> bool:
        return self._takes and len(self._running) < self._limit and not self._host.is_ending


class _CallSelector(selectors.EpollSelector):
    """Calls are events, too."""

    def __init__(self, lane: CallLoop) -> None:
        super().__init__()
        self._lane = lane

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(0 if self._lane.look(self.fileno(), timeout) else timeout)


def _nothing() -> None:
    """Nobody waits for the end of a call."""
