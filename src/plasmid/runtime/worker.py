"""The worker: takes tasks, runs them, tells what became of them."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from plasmid import serialize
from plasmid._core import core
from plasmid.engine import current, packing
from plasmid.engine.local import LocalEngine
from plasmid.engine.running import RunningTask, running
from plasmid.exceptions import ObjectStoreFullError, PlasmidError, RayTaskError
from plasmid.runtime import output
from plasmid.runtime.start import WorkerStart

SURPLUS_SECONDS = 10.0
"""A worker beyond num_cpus that has had nothing to do for so long ends."""

FUNCTIONS = 1000
"""Functions that a worker keeps unpickled."""


def main(start: WorkerStart) -> None:
    """Run tasks until the session ends, or this worker is surplus."""
    arena = core.Arena.attach(start.arena_fd, core.WORKER, start.driver_pidfd, start.bell_fd)
    current.set_engine(LocalEngine(arena))
    Worker(arena, start.threads.set).run()


class Worker:
    """One process's task loop.

    Processes and threads: runs tasks in the thread that calls run(), one on top of the other when a
    task waits for tasks that nobody has taken.
    """

    def __init__(self, arena: core.Arena, set_threads: Callable[[float], None]) -> None:
        self._arena = arena
        self._set_threads = set_threads
        self._functions: dict[tuple[int, int], Callable[..., Any]] = {}

    def run(self) -> None:
        task: core.Running | None = None
        while True:
            if task is None:
                task = core.next_task(self._arena, SURPLUS_SECONDS)
            if task is not None:
                task = self._perform(task, take=True)
            elif self._arena.closing or self._arena.has_surplus:
                return

    def _perform(self, task: core.Running, *, take: bool) -> core.Running | None:
        """Run a task to its end; the next one, if it is wanted and there is one."""
        outer = running.task
        mine = RunningTask(task, outer.depth + 1 if outer else 0, self._perform_inside)
        running.task = mine
        output.begin_task(task.name)
        try:
            return self._attempt(task, mine, take)
        finally:
            running.task = outer
            if outer is not None:
                output.begin_task(outer.core.name)

    def _perform_inside(self, task: core.Running) -> None:
        self._perform(task, take=False)

    def _attempt(self, task: core.Running, mine: RunningTask, take: bool) -> core.Running | None:
        retry: Any = False
        try:
            args, kwargs, where, extra = packing.unpack_arguments(task)
            retry, num_cpus = extra or (False, 1.0)
            self._set_threads(num_cpus)
            filled = self._fill_in(task, mine, args, kwargs, where)
            function = self._function(task)
        except PlasmidError as error:  # of an argument: whoever waits for us gets the first cause
            return self._fail(task, error, take)
        except BaseException as error:
            return self._fail(task, RayTaskError.capture(task.name, error), take)
        try:
            value = function(*filled, **kwargs)
            if inspect.iscoroutine(value):
                import asyncio

                value = asyncio.run(value)
            output.end_task()
            return task.finish(self._pack(task, split(task, value)), False, take)
        except BaseException as error:
            if task.retries != 0 and _is_to_retry(error, retry):
                task.retry()
                return None
            return self._fail(task, RayTaskError.capture(task.name, error), take)

    def _fill_in(
        self,
        task: core.Running,
        mine: RunningTask,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        where: Sequence[int | str],
    ) -> Sequence[Any]:
        """args, and kwargs in place, with the values of those that were references."""
        if not where:
            return args
        filled = list(args)
        for index, place in enumerate(where):
            value = task.argument(index)
            mine.resolved.append(value)
            if isinstance(place, int):
                filled[place] = value
            else:
                kwargs[place] = value
        return filled

    def _function(self, task: core.Running) -> Callable[..., Any]:
        key = task.function_key
        function = self._functions.get(key)
        if function is None:
            data, more_path, _ = task.function()
            sys.path.extend(entry for entry in more_path if entry not in sys.path)
            function = serialize.loads_function(data)
            if len(self._functions) >= FUNCTIONS:
                self._functions.pop(next(iter(self._functions)))
            self._functions[key] = function
        return function

    def _pack(self, task: core.Running, values: Sequence[Any]) -> list[bytes | core.Pending]:
        """The results, stored."""
        packed: list[bytes | core.Pending] = []
        for number, value in enumerate(values, start=1):
            try:
                packed.append(packing.pack_result(self._arena, value))
            except (TypeError, ObjectStoreFullError) as error:
                which = "result" if len(values) == 1 else f"result {number} of {len(values)}"
                raise type(error)(f"{which} of {task.name}(): {error}") from None
        return packed

    def _fail(self, task: core.Running, error: PlasmidError, take: bool) -> core.Running | None:
        """End the task with an exception in place of each result. There is always room to say
        it."""
        output.end_task()
        _forget_frames(error)
        results: list[bytes | core.Pending] = []
        for _ in range(task.nrets):
            try:
                results.append(packing.pack_result(self._arena, error))
            except Exception:
                results.append(core.encode_error(_short(error)))
        return task.finish(results, True, take)


def split(task: core.Running, value: Any) -> Sequence[Any]:
    """The task's results: its value, or as many items of it as there are references for them."""
    count = task.nrets
    if count == 1 and not inspect.isgenerator(value):
        return (value,)
    if count == 0:
        return ()
    if inspect.isgenerator(value):
        items = list(islice(value, count + 1))
    elif isinstance(value, (list, tuple)):
        items = list(value)
    else:
        raise ValueError(
            f"{task.name}() has num_returns={count}: it must return a list or tuple of as many "
            f"values, not {type(value).__name__}"
        )
    if len(items) != count:
        more = "more than " if len(items) > count and inspect.isgenerator(value) else ""
        found = f"{more}{min(len(items), count) if more else len(items)}"
        raise ValueError(f"{task.name}() has num_returns={count}, but returned {found} values")
    return items


def _is_to_retry(error: BaseException, retry: bool | tuple[type[BaseException], ...]) -> bool:
    if isinstance(retry, tuple):
        return isinstance(error, retry)
    return retry and isinstance(error, Exception)


def _forget_frames(error: PlasmidError) -> None:
    """Let go the variables of the functions that the error came through, or a worker without work
    would keep arguments until its garbage collector runs."""
    cause: BaseException | None = error.cause if isinstance(error, RayTaskError) else error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__


def _short(error: PlasmidError) -> PlasmidError:
    """The error as what can be rebuilt from a line of text."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, ObjectStoreFullError):
        return type(cause)(str(cause))
    return ObjectStoreFullError(f"no room to store the error that ended the task: {error}")
