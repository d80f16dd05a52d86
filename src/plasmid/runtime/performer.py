"""Running one task: its function and arguments, its value, what becomes of it."""

from __future__ import annotations

import inspect
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import AsyncGeneratorType, CoroutineType, GeneratorType, TracebackType
from typing import Any, NoReturn

from plasmid import serialize
from plasmid._core import core
from plasmid.engine import packing
from plasmid.engine.local import LocalEngine
from plasmid.engine.running import RunningTask, process
from plasmid.exceptions import (
    ObjectStoreFullError,
    PlasmidError,
    RayTaskError,
    StreamingGeneratorReplayInconsistentError,
    TaskCancelledError,
    summary,
)
from plasmid.runtime import aliases
from plasmid.runtime.environment import ThreadLimit, devices
from plasmid.runtime.stream import Stream, drive, gather, no_pause

FUNCTIONS = 1000
"""Functions that a worker keeps unpickled."""

NOTHING = core.encode(None) or b""

_DEFAULTS = (False, 1.0, False, False, 0)
"""What `extra` says of most tasks; see packing."""


@dataclass(slots=True)
class Prepared:
    """A task that can be called.

    retry       whether to run it again when it raises: always, never, or for these classes
    is_dynamic  its items are one result
    """

    function: Callable[..., Any]
    args: Sequence[Any]
    kwargs: dict[str, Any]
    retry: Any = False
    is_dynamic: bool = False


class Outcome:
    """How a task ended: its results as stored, of which a generator that raised has those before;
    what it raised; and what is to be retried."""

    __slots__ = ("error", "results", "retry")

    def __init__(
        self,
        results: list[bytes | core.Pending],
        error: PlasmidError | None = None,
        retry: Any = False,
    ) -> None:
        self.results = results
        self.error = error
        self.retry = retry


class Performer:
    """What a process needs to run tasks: `run` one in the calling thread, then `conclude` it.

    Processes and threads: in a worker one thread does so; in an actor several may, each with tasks
    of its own, and conclude one at a time.
    """

    def __init__(self, arena: core.Arena, engine: LocalEngine, threads: ThreadLimit) -> None:
        self.arena = arena
        self._engine = engine
        self._update_serializers = engine.serializers.update
        self._threads = threads
        self.set_threads = threads.set
        self._at_home = False  # in the environment of its tasks
        self._calls: dict[tuple[int, int], int] = {}  # of functions that have max_calls
        self.is_worn = False  # one of them has been called so often
        self._functions: dict[tuple[int, int], Callable[..., Any]] = {}
        self._has_devices = arena.resources()["GPU"][0] > 0
        self.method: Callable[[RunningTask, Any], tuple[Callable[..., Any], Any]] | None = None
        """Of an actor: what a call's `extra` names, and what to retry upon."""

    def stream(self, mine: RunningTask) -> Stream | None:
        return Stream(self.arena, mine) if mine.core.yields else None

    def conclude(
        self, mine: RunningTask, outcome: Outcome, yielded: Stream | None, take: bool
    ) -> core.Running | None:
        """End a task that has run, or have it run again; the next one, as above."""
        task, error = mine.core, outcome.error
        take = take and not self.is_worn
        try:
            if error is None:
                return self._finish(task, outcome.results, take)
            if task.retries != 0 and _is_to_retry(error, outcome.retry):
                _forget_frames(error)
                task.retry(_line(error))
                return None
            if yielded and yielded.has_begun and _tell(yielded, error):
                return self._finish(task, [NOTHING], take, _line(error))
            return self.fail(task, error, take, outcome.results)
        except TaskCancelledError:  # by force: whoever did so may have died before the kill
            os.kill(os.getpid(), signal.SIGKILL)
            raise

    def prepare(self, mine: RunningTask, unpacked: packing.Arguments | None = None) -> Prepared:
        """Enter the task's environment and read what it was given. Raises the errors of arguments,
        RuntimeEnvSetupError."""
        task = mine.core
        self._update_serializers()
        if not self._at_home:
            self._settle(task)
        if not task.call:
            self.show_devices(task)
        args, kwargs, where, extra = unpacked or packing.unpack_arguments(task)
        if task.call:
            assert self.method is not None
            filled = self._fill_in(task, mine, args, kwargs, where) if where else args
            function, retry = self.method(mine, extra)
            mine.function = function
            return Prepared(function, filled, kwargs, retry)
        asked, mine.num_cpus, mine.captures, is_dynamic, calls = extra or _DEFAULTS
        self.set_threads(mine.num_cpus)
        filled = self._fill_in(task, mine, args, kwargs, where) if where else args
        function = mine.function = self._function(task)
        if calls:
            self._count_call(task, calls)
        return Prepared(function, filled, kwargs, asked, is_dynamic)

    def store(
        self,
        mine: RunningTask,
        prepared: Prepared,
        value: Any,
        yielded: Stream | None,
        results: list[bytes | core.Pending],
    ) -> None:
        """Add the results that a value stands for, stored. Runs what is a generator."""
        task = mine.core
        if yielded is not None:
            yielded.run(value)
            value = None
        elif prepared.is_dynamic:
            value = gather(self.arena, mine, value, lambda error: _capture(task, error, 3))
        if isinstance(value, (GeneratorType, AsyncGeneratorType)):
            self._unpack(mine, value, results)
        elif task.nrets == 1:
            results.append(self._pack_one(task, value, 1))
        else:
            values = enumerate(split(task, value), start=1)
            results += [self._pack_one(task, item, number) for number, item in values]

    def raised(
        self,
        mine: RunningTask,
        error: BaseException,
        results: list[bytes | core.Pending],
        retry: Any,
        ours: int,
    ) -> Outcome:
        """The end of a task that raised, below so many frames of ours."""
        if process.forked:
            leave_fork(error)
        if mine.interrupted and _is_interruption(error):
            # in its place: the trace tells where the task was
            return Outcome([], _cancelled(mine.core, error))
        if isinstance(error, StreamingGeneratorReplayInconsistentError):
            _forget_frames(error)
            return Outcome([], error)
        return Outcome(results, _capture(mine.core, error, ours), retry)

    def cancelled(self, mine: RunningTask) -> Outcome:
        """The end of a task that was cancelled, and has run to its end for all that."""
        message = f"{mine.core.name}() was cancelled while it ran in process {os.getpid()}"
        return Outcome([], TaskCancelledError(mine.core.serial, message))

    def run(
        self, mine: RunningTask, yielded: Stream | None, unpacked: packing.Arguments | None = None
    ) -> Outcome:
        """Run the task's function. unpacked: its arguments, if they have been read already."""
        prepared: Prepared | None = None
        ours = 2  # frames of ours above those of the task
        results: list[bytes | core.Pending] = []
        try:
            if yielded is not None and not mine.core.wanted:
                return Outcome([NOTHING])
            try:
                prepared = self.prepare(mine, unpacked)
            except PlasmidError as error:  # of an argument: whoever waits gets the first cause
                _forget_frames(error)
                return Outcome([], error)
            value = self._call(mine, prepared)
            ours = 4  # of a generator's
            self.store(mine, prepared, value, yielded, results)
        except BaseException as error:
            retry = False if prepared is None else prepared.retry
            return self.raised(mine, error, results, retry, ours)
        if process.forked:
            leave_fork(None)
        return Outcome(results)

    def _settle(self, task: core.Running) -> None:
        """Before the first task: enter its environment, which all others have, too.
        RuntimeEnvSetupError: the next one tries again."""
        environment = task.environment()
        if environment is not None:
            self._engine.enter(environment, self._threads)
        self._at_home = True

    def _count_call(self, task: core.Running, most: int) -> None:
        key = task.function_key
        self._calls[key] = self._calls.get(key, 0) + 1
        self.is_worn = self.is_worn or self._calls[key] >= most

    def show_devices(self, task: core.Running) -> None:
        if self._has_devices:
            devices.set(task.devices)

    def _call(self, mine: RunningTask, prepared: Prepared) -> Any:
        """What the function returned. Here a cancel interrupts."""
        try:
            mine.core.begin()
            mine.expose()
            value = prepared.function(*prepared.args, **prepared.kwargs)
            if isinstance(value, CoroutineType):
                value = mine.run_coroutine(value)
            return value
        finally:
            mine.shield()
            mine.core.end()

    def _finish(
        self,
        task: core.Running,
        results: list[bytes | core.Pending],
        take: bool,
        raised: bytes = b"",
    ) -> core.Running | None:
        try:
            return task.finish(results, 0, take, raised)
        except ValueError as error:  # a result that contains itself
            return self.fail(task, RayTaskError.capture(task.name, error), take)

    def _fill_in(
        self,
        task: core.Running,
        mine: RunningTask,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        where: Sequence[int | str],
    ) -> Sequence[Any]:
        """args, and kwargs in place, with the values of those that were references."""
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
            data, (more_path, more_names), refs = task.function()
            aliases.install(more_names)
            sys.path.extend(entry for entry in more_path if entry not in sys.path)
            function = serialize.loads_function(data)
            if refs:
                return function  # kept, it would keep the objects that its closure refers to
            if len(self._functions) >= FUNCTIONS:
                self._functions.pop(next(iter(self._functions)))
            self._functions[key] = function
        return function

    def _pack_one(self, task: core.Running, value: Any, number: int) -> bytes | core.Pending:
        try:
            return packing.pack_result(self.arena, value, task.name)
        except (TypeError, ObjectStoreFullError) as error:
            which = "result" if task.nrets == 1 else f"result {number} of {task.nrets}"
            raise type(error)(f"{which} of {task.name}(): {error}") from None

    def _unpack(
        self, mine: RunningTask, generator: Any, results: list[bytes | core.Pending]
    ) -> None:
        """As many items as there are references for them, stored one by one: those before an
        exception are results."""
        task = mine.core
        count = task.nrets

        def take(item: Any) -> bool | None:
            if len(results) < count:
                results.append(self._pack_one(task, item, len(results) + 1))
            elif count:  # with num_returns=0 it is run for its effects
                return None
            return True

        if not drive(mine, generator, take, no_pause):
            results.clear()
            raise _wrong_number(task, f"more than {count}")
        if len(results) < count:
            raise _wrong_number(task, len(results))

    def fail(
        self,
        task: core.Running,
        error: PlasmidError,
        take: bool,
        before: Sequence[bytes | core.Pending] = (),
    ) -> core.Running | None:
        """End the task with an exception in place of each result but those `before` it. There is
        always room to say it."""
        results = list(before)
        failures = task.nrets - len(results)
        for _ in range(failures):
            try:
                results.append(packing.pack_result(self.arena, error))
            except Exception as reason:
                results.append(core.encode_error(_short(error, reason)))
        try:
            return task.finish(results, failures, take, _line(error))
        except ValueError:  # a result that contains itself
            if not before:
                raise
        return self.fail(task, error, take)


def split(task: core.Running, value: Any) -> Sequence[Any]:
    """The results of a task that has none or several: as many items of its value."""
    count = task.nrets
    if count == 0:
        return ()
    if not isinstance(value, (list, tuple)):
        raise ValueError(
            f"{task.name}() has num_returns={count}: it must return a list or tuple of as many "
            f"values, not {type(value).__name__}"
        )
    if len(value) != count:
        raise _wrong_number(task, len(value))
    return list(value)


def _wrong_number(task: core.Running, found: int | str) -> ValueError:
    return ValueError(f"{task.name}() has num_returns={task.nrets}, but returned {found} values")


def _tell(yielded: Stream, error: PlasmidError) -> bool:
    """Give out what a generator raised as its last item. False: it is not the generator's error,
    or could not be stored."""
    if not isinstance(error, RayTaskError) or isinstance(error.cause, TaskCancelledError):
        return False
    try:
        yielded.fail(error)
    except Exception:
        return False
    return True


def _is_interruption(error: BaseException) -> bool:
    """Whether it is what a task is interrupted with."""
    if isinstance(error, KeyboardInterrupt):
        return True
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and isinstance(error, asyncio.CancelledError)


def _cancelled(task: core.Running, error: BaseException) -> RayTaskError:
    """The error of a task that was interrupted and ended by that."""
    message = f"{task.name}() was cancelled while it ran in process {os.getpid()}"
    failure = RayTaskError.capture(task.name, error, skip=2)
    _forget_frames(error)
    return RayTaskError(task.name, failure.traceback_str, TaskCancelledError(task.serial, message))


def _line(error: PlasmidError) -> bytes:
    """What ended the task, as the event tells it: more than a line is cut there."""
    cause = error.cause if isinstance(error, RayTaskError) and error.cause else error
    text = summary(cause).partition("\n")[0]
    return text[:55].encode(errors="replace")[:55]


def _is_to_retry(error: PlasmidError, retry: bool | tuple[type[BaseException], ...]) -> bool:
    cause = error.cause if isinstance(error, RayTaskError) else None
    if isinstance(cause, SystemExit):  # as the end of the process that the task asked for
        return True
    if isinstance(retry, tuple):
        return isinstance(cause, retry)
    return retry and isinstance(cause, Exception)


def _capture(task: core.Running, error: BaseException, ours: int) -> RayTaskError:
    """What a task raised, as it travels, without so many frames of the worker's."""
    failure = RayTaskError.capture(task.name, error, skip=ours)
    _forget_frames(error)
    return failure


def _forget_frames(raised: BaseException) -> None:
    """Let go the variables of the functions that an exception came through, or a worker without
    work would keep arguments until its garbage collector runs."""
    chain: list[BaseException | None] = [raised]
    seen: set[int] = set()
    while chain:
        error = chain.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        _clear(error.__traceback__)
        error.__traceback__ = None  # its text has been taken
        chain += error.__cause__, error.__context__
        if isinstance(error, RayTaskError):
            chain.append(error.cause)


def _clear(trace: TracebackType | None) -> None:
    suspendable = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
    while trace is not None:
        if not trace.tb_frame.f_code.co_flags & suspendable:  # clearing would close those
            with suppress(RuntimeError):  # it is still running
                trace.tb_frame.clear()
        trace = trace.tb_next


def leave_fork(error: BaseException | None) -> NoReturn:
    """End a process that a task forked, and which came back out of the task, which is not its."""
    code = 1 if error else 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error:
        traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code & 0xFF)


def _short(error: PlasmidError, reason: Exception) -> PlasmidError:
    """The error, which could not be stored, as what can be rebuilt from a line of text."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, ObjectStoreFullError):
        return type(cause)(str(cause))
    # Few bytes are kept of it: what ended the task matters most.
    if isinstance(reason, MemoryError):
        return ObjectStoreFullError(f"no room to store what ended the task: {error}")
    what = str(error).partition("\n")[0][:80]
    return PlasmidError(f"what ended the task could not be stored: {what}: {reason}")
