"""An actor's process: it makes the instance, and runs its calls until nobody can call it any more.

    plain             the main thread takes a call, runs it, takes the next
    max_concurrency   the main thread takes as many as may run, threads run them (lanes.py)
    async             an event loop in a thread of its own takes and runs them

Concurrency groups are lanes beside the default one, each with its threads or its loop: then the
main thread takes all calls as they come, and they wait in their lane.
"""

from __future__ import annotations

import atexit
import inspect
import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NoReturn

from plasmid._core import core
from plasmid.engine import packing
from plasmid.engine.running import (
    RunningCall,
    RunningTask,
    coroutine,
    process,
    running,
)
from plasmid.exceptions import ActorExit, PlasmidError, RayTaskError
from plasmid.runtime import bars, output
from plasmid.runtime.lanes import CallLoop, EventLoop, LoopLane, ThreadLane
from plasmid.runtime.performer import NOTHING, Outcome, Performer, Prepared

UNWANTED = "it has ended, as nobody had a reference to it any more"
TERMINATED = "it has ended by exit_actor(): __ray_terminate__() was called"

EXIT_SECONDS = 30.0
"""So long an actor that ends of its own accord leaves to other calls that run."""


def run(performer: Performer, task: core.Running) -> None:
    """Be the actor that the task is, until it ends. This process is to end then, too."""
    process.hosts = True
    host = Host(performer, task)
    process.card = host.card
    host.run()


class Host:
    """The actor of this process.

    Processes and threads: `run` belongs to the main thread. Calls run in it, or in lanes; each is
    concluded under a lock, since a process gives account of one task at a time.
    """

    def __init__(self, performer: Performer, task: core.Running) -> None:
        self._performer = performer
        self._arena = performer.arena
        self._task = task
        self.card: dict[str, Any] = task.card()
        self._mine = RunningTask(task, 0, _refuse)
        self._instance: Any = None
        self._concluding = threading.Lock()
        self._ended = threading.Condition()  # calls, and then the actor
        self.is_ending = False
        self._loop: EventLoop | None = None
        self._lanes: Mapping[str | None, LoopLane | ThreadLane] = {}

    def run(self) -> None:
        running.task = process.task = self._mine
        output.begin_task(self.card["class_name"])
        serve = self._arrange()
        if not self._construct():
            return
        self._performer.method = self._method
        serve()
        if self._arena.closing:
            return
        self.end(UNWANTED)

    def _arrange(self) -> Callable[[], None]:
        """Make the lanes. How calls come to them, until there are none any more."""
        card = self.card
        limits = {None: card["max_concurrency"], **card["groups"]}
        if card["is_async"] and not card["groups"]:
            bell = core.CallBell(self._arena)
            self._loop = loop = CallLoop(self, limits[None], bell)

            def serve() -> None:
                loop.begin()
                bell.relay()

            return serve
        if card["is_async"]:
            loops = {name: LoopLane(self, name, limit) for name, limit in limits.items()}
            self._loop, self._lanes = loops[None], loops
        elif limits[None] > 1 or card["groups"]:
            self._lanes = {name: ThreadLane(self, name, limit) for name, limit in limits.items()}
        else:
            return self._serve
        return self._serve_lanes

    # ---- the constructor

    def _construct(self) -> bool:
        """False: it has failed, which the obituary tells."""
        performer, mine, prepared = self._performer, self._mine, None
        try:
            prepared = performer.prepare(mine)
            self._instance = self._make(prepared)
            return True
        except BaseException as error:
            if isinstance(error, PlasmidError) and prepared is None:  # of an argument
                outcome = Outcome([], error)
            else:
                outcome = performer.raised(mine, error, [], False, _ours(error))
        reason = self._look_for_exit(outcome)
        if reason is not None:
            self.end(reason)
        self._flush()
        performer.conclude(mine, outcome, None, False)
        return False

    def _make(self, prepared: Prepared) -> Any:
        if self._loop is not None:
            return self._loop.make(prepared)
        self._mine.core.begin()
        try:
            return prepared.function(*prepared.args, **prepared.kwargs)
        finally:
            self._mine.core.end()

    # ---- calls

    def _method(self, mine: RunningTask, extra: Any) -> tuple[Callable[..., Any], Any]:
        name, retry, _ = extra if isinstance(extra, tuple) else (extra, False, None)
        special = _SPECIAL.get(name)
        if special is not None:
            return lambda *args, **kwargs: special(self._instance, *args, **kwargs), retry
        return getattr(self._instance, name), retry

    def _serve(self) -> None:
        call: core.Running | None = None
        while True:
            if call is None:
                call = core.next_call(self._arena)
            if call is None:
                return
            call = self.perform(call, take=True)
            running.task = self._mine

    def _serve_lanes(self) -> None:
        limit = None if self.card["groups"] else self.card["max_concurrency"]
        room = threading.Semaphore(limit) if limit is not None else None
        while True:
            if room is not None:
                room.acquire()
            call = core.next_call(self._arena)
            if call is None:
                return
            while self.is_ending:  # the call fails with the actor
                threading.Event().wait()
            unpacked = group = None
            if self.card["groups"]:
                unpacked = self._unpack(call)
                group = self._group_of(unpacked)
            self._lanes[group].submit(call, unpacked, room.release if room else _nothing)

    def _unpack(self, call: core.Running) -> packing.Arguments | None:
        try:
            return packing.unpack_arguments(call)
        except Exception:  # it fails again where that is told
            return None

    def _group_of(self, unpacked: packing.Arguments | None) -> str | None:
        extra = unpacked[3] if unpacked else None
        group = extra[2] if isinstance(extra, tuple) else None
        return group if group in self._lanes else None

    def perform(
        self, call: core.Running, *, take: bool, unpacked: packing.Arguments | None = None
    ) -> core.Running | None:
        """Run a call to its end in this thread; the next one, if it is wanted and there is one."""
        mine = RunningCall(call, self._mine)
        running.task = mine
        performer = self._performer
        if self.is_ending:
            return None
        process.calls.add(mine)
        mine.look()  # it may have been cancelled before
        yielded = performer.stream(mine)
        if mine.interrupted:
            outcome = performer.cancelled(mine)
        else:
            outcome = performer.run(mine, yielded, unpacked)
        return self._conclude(mine, outcome, yielded, take)

    async def perform_async(
        self, call: core.Running, unpacked: packing.Arguments | None, stop: Callable[[], object]
    ) -> None:
        """Run a call to its end in this event loop."""
        if self.is_ending:
            return
        mine = RunningCall(call, self._mine)
        mine.stop = stop
        coroutine.set(mine)
        process.calls.add(mine)
        mine.look()  # it may have been cancelled before
        yielded = self._performer.stream(mine)
        if mine.interrupted:
            outcome = self._performer.cancelled(mine)
        else:
            outcome = await self._run_async(mine, yielded, unpacked)
        self._conclude(mine, outcome, yielded, False)

    async def _run_async(
        self, mine: RunningCall, yielded: Any, unpacked: packing.Arguments | None
    ) -> Outcome:
        performer = self._performer
        prepared: Prepared | None = None
        results: list[bytes | core.Pending] = []
        try:
            if yielded is not None and not mine.core.wanted:
                return Outcome([NOTHING])
            try:
                prepared = performer.prepare(mine, unpacked)
            except PlasmidError as error:  # of an argument
                return Outcome([], error)
            mine.core.begin()
            try:
                value = prepared.function(*prepared.args, **prepared.kwargs)
                if inspect.isawaitable(value):
                    value = await value
            finally:
                mine.core.end()
            if inspect.isasyncgen(value):
                if yielded is not None:
                    await yielded.run_async(value)
                    return Outcome([NOTHING])
                items = [item async for item in value]
                value = (item for item in items)
            performer.store(mine, prepared, value, yielded, results)
        except BaseException as error:
            retry = False if prepared is None else prepared.retry
            return performer.raised(mine, error, results, retry, _ours(error))
        return Outcome(results)

    def _conclude(
        self, mine: RunningCall, outcome: Outcome, yielded: Any, take: bool
    ) -> core.Running | None:
        reason = self._look_for_exit(outcome) if outcome.error is not None else None
        if reason is not None:
            self._end_after(mine, reason)
            return None
        if mine.interrupted and outcome.error is None:
            outcome = self._performer.cancelled(mine)
        self._flush()
        with self._concluding:
            following = self._performer.conclude(mine, outcome, yielded, take)
        process.calls.discard(mine)
        if self.is_ending:
            with self._ended:
                self._ended.notify_all()
        return following

    @staticmethod
    def _flush() -> None:
        bars.send_rest()
        output.finish_lines()

    # ---- the end

    @staticmethod
    def _look_for_exit(outcome: Outcome) -> str | None:
        """Why the actor is to end, if it says so itself. SystemExit ends its process."""
        cause = outcome.error.cause if isinstance(outcome.error, RayTaskError) else None
        if isinstance(cause, ActorExit):
            return str(cause.code)
        if isinstance(cause, SystemExit):
            code = cause.code
            _leave(code if isinstance(code, int) else int(code is not None))
        return None

    def _end_after(self, leaver: RunningCall, reason: str) -> None:
        """Take no more calls, and end when those that run have ended, but for the one that asks for
        it; or after EXIT_SECONDS. The others fail with the actor."""
        if self._loop is None and not self._lanes:
            self.end(reason)
        self.is_ending = True

        def end() -> None:
            with self._ended:
                self._ended.wait_for(lambda: process.calls <= {leaver}, EXIT_SECONDS)
            self.end(reason)

        threading.Thread(target=end, name="plasmid exit", daemon=True).start()

    def end(self, reason: str) -> NoReturn:
        """The actor ends of its own accord, and is not started again: this process, too."""
        self.is_ending = True
        try:
            shutdown = getattr(self._instance, "__ray_shutdown__", None)
            if shutdown is not None:
                shutdown()
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
        self._instance = None  # its __del__, if nothing else refers to it
        with suppress(Exception):
            self._task.finish([packing.pack_result(self._arena, reason)], 0, False)
        with suppress(BaseException):
            atexit._run_exitfuncs()
        _leave(0)


def _call(instance: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(instance, *args, **kwargs)


def _terminate(instance: Any) -> NoReturn:
    raise ActorExit(TERMINATED)


_SPECIAL: dict[str, Callable[..., Any]] = {
    "__ray_ready__": lambda instance: True,
    "__ray_call__": _call,
    "__ray_terminate__": _terminate,
}
"""Methods that every actor has."""


def _leave(code: int) -> NoReturn:
    """End this process; what became of the actor has been told, or its death will tell."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):
            stream.flush()
    os._exit(code & 0xFF)


def _ours(error: BaseException) -> int:
    """Frames of a traceback that are of the machinery, before the first of the program's."""
    count, trace = 0, error.__traceback__
    while trace is not None and trace.tb_next is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        if not module.startswith(("plasmid.runtime.", "asyncio.", "concurrent.", "threading")):
            break
        count, trace = count + 1, trace.tb_next
    return count


def _nothing() -> None:
    """There is no limit to give room in."""


def _refuse(task: core.Running) -> NoReturn:
    raise AssertionError("no other task runs in an actor's process")
