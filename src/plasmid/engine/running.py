"""Which task a thread runs, and whether another may run on top of it."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from signal import ITIMER_REAL, getitimer
from typing import Any, NoReturn

from plasmid._core import core

BROKEN = 70
"""Exit status of a worker that was interrupted between tasks, by a signal handler that raises for
example: what it had taken is run again by another."""


class RunningTask:
    """A task on its worker's stack.

    core      the core's handle of it
    depth     tasks below it on the same stack
    num_cpus  what it asked for
    captures  whether tasks that it submits are of its placement group, too
    resolved  values that references among its arguments arrived as
    function  what it runs, None until that is known
    run_inside(task)  run another to its end on top of it
    interrupted  whether it has been told that it was cancelled

    A task that is cancelled is told so by an exception in its own code: in the main thread, where
    it runs, as long as it is `exposed`. Outside of that, in the worker's code around it and below
    other tasks on the same stack, it is not: `expose` makes good what came meanwhile.

    Processes and threads: `lend` and `take_back` may be called by any thread of the process, the
    rest belongs to the thread that runs the task.
    """

    __slots__ = (
        "_exposed",
        "_lenders",
        "_lock",
        "_stop",
        "captures",
        "core",
        "depth",
        "function",
        "interrupted",
        "num_cpus",
        "resolved",
        "run_inside",
    )

    def __init__(
        self, task: core.Running, depth: int, run_inside: Callable[[core.Running], None]
    ) -> None:
        self.core = task
        self.depth = depth
        self.num_cpus = 1.0
        self.captures = False
        self.resolved: list[Any] = []
        self.function: Callable[..., Any] | None = None
        self.run_inside = run_inside
        self._lock = threading.Lock()
        self._lenders = 0
        self.interrupted = False
        self._exposed = False
        self._stop: Callable[[], object] | None = None  # in a coroutine, instead of exposure

    def expose(self) -> None:
        """From now on a cancel interrupts; one that has come already does here."""
        self._exposed = True
        self.look()

    def shield(self) -> bool:
        """From now on it does not. Whether it did."""
        was, self._exposed = self._exposed, False
        return was

    def look(self) -> None:
        """Raise KeyboardInterrupt if the task has been cancelled and is exposed; once for each
        cancel. Called by the signal's handler, too, so it may run inside of itself."""
        if not self.core.is_asked_to_end:
            return
        if self._stop is not None:
            self._stop()
        elif self._exposed and self._is_told():
            raise KeyboardInterrupt

    @property
    def is_cancelled(self) -> bool:
        """Whether it was cancelled, told of it or not."""
        return self.interrupted or self.core.is_asked_to_end

    def _is_told(self) -> bool:
        told = self.core.tell()
        self.interrupted = self.interrupted or told
        return told

    def run_coroutine(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Its result. A cancel is that of asyncio: CancelledError where the coroutine awaits."""
        import asyncio

        async def run() -> Any:
            loop, this = asyncio.get_running_loop(), asyncio.current_task()

            def stop() -> None:  # told only now: what it has submitted meanwhile is cancelled, too
                if this is not None and not this.done() and self._is_told():
                    this.cancel()

            self._stop = lambda: loop.call_soon_threadsafe(stop)
            try:
                self.look()
                return await coroutine  # what it awaits, the thread of the futures waits for
            finally:
                self._stop = None

        self.shield()
        try:
            return asyncio.run(run())
        finally:
            self.expose()

    @property
    def function_name(self) -> str:
        if self.function is None:
            return ""
        return f"{self.function.__module__}.{self.function.__qualname__}"

    def lend(self) -> None:
        """A thread of the task sleeps: others may use its CPU until `take_back`."""
        with self._lock:
            self._lenders += 1
            if self._lenders == 1:
                self.core.block()

    def take_back(self) -> None:
        """That thread goes on; with the last one the task has its CPU again."""
        with self._lock:
            self._lenders -= 1
            if self._lenders == 0:
                self.core.resume()


class RunningCall(RunningTask):
    """A call of the actor that this process hosts: there may be several at a time.

    A cancel stops it where it awaits something, if it is a coroutine; in other calls it does not
    interrupt anything, as that might leave the actor half-changed: they end as cancelled.

    actor  the task that the actor is, which has what the actor holds
    stop   called when it is cancelled, in the main thread
    """

    __slots__ = ("actor", "stop")

    def __init__(self, task: core.Running, actor: RunningTask) -> None:
        super().__init__(task, 0, actor.run_inside)
        self.actor = actor
        self.stop: Callable[[], object] | None = None

    def expose(self) -> None:
        """Nothing: see above."""

    def shield(self) -> bool:
        return False

    def look(self) -> None:
        if self.core.is_asked_to_end and self._is_told() and self.stop is not None:
            self.stop()

    def lend(self) -> None:
        self.actor.lend()

    def take_back(self) -> None:
        self.actor.take_back()


def look_for_cancel(*_: object) -> None:
    """The handler of CANCEL_SIGNAL: another task may run by now than the one that it was sent for,
    whose record tells."""
    task = running.task
    if task is not None:
        task.look()
    for call in tuple(process.calls):
        call.look()


class _Running(threading.local):
    """`task` of the calling thread; None in a driver, and in threads that a task has started."""

    task: RunningTask | None = None


class _Process:
    """`task` that this process's main stack is at: threads without a task of their own lend its
    CPU. `calls` of the actor that it hosts, which run now; it `hosts` one, of this `card`, and
    nothing else is to run here. `forked` in the child of a fork, which runs no task."""

    task: RunningTask | None = None
    hosts = False
    card: dict[str, Any] | None = None
    forked = False

    def __init__(self) -> None:
        self.calls: set[RunningCall] = set()


running = _Running()
process = _Process()

coroutine: ContextVar[RunningCall | None] = ContextVar("coroutine", default=None)
"""The call that a coroutine of an actor is part of: many share a thread."""


def current_task() -> RunningTask | None:
    """The task on whose behalf this thread, or coroutine, acts."""
    return coroutine.get() or running.task or process.task


def holder() -> RunningTask | None:
    """The task that has the resources that this thread may use: of calls, their actor."""
    return process.task if process.hosts else running.task or process.task


def _after_fork() -> None:
    running.task = process.task = None
    process.calls = set()
    process.forked = True


os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def shielded() -> Iterator[None]:
    """No cancel interrupts this thread's task inside; one that comes meanwhile does at the end.

    For calls that turn whatever is raised in them into something else: C pickle says PicklingError
    of an import that was interrupted.
    """
    task = running.task
    exposed = task is not None and task.shield()
    try:
        yield
    finally:
        if task is not None and exposed:
            task.expose()


def can_run_inside() -> bool:
    """Whether another task may run on this stack: not in an actor's process, not below an event
    loop, which would keep it from starting its own, and not while an alarm of this task may go off
    in it."""
    if process.hosts:
        return False
    asyncio = sys.modules.get("asyncio")
    looping = asyncio is not None and asyncio._get_running_loop() is not None
    return not looping and getitimer(ITIMER_REAL)[0] == 0


def is_stack_low() -> bool:
    """Whether most of the stack that Python allows is still free."""
    return stack_depth() < sys.getrecursionlimit() // 4


def stack_depth() -> int:
    """Frames on this thread's stack. About 30 ns each."""
    frame, depth = sys._getframe(), 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1  # type: ignore[assignment]
    return depth


def die() -> NoReturn:
    """End this process, which no longer knows what it runs. The core has its tasks run again."""
    with suppress(BaseException):
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(BROKEN)
