"""The worker: takes tasks and runs them, until one is an actor."""

from __future__ import annotations

import sys

from plasmid._core import core
from plasmid.engine import current
from plasmid.engine.local import LocalEngine
from plasmid.engine.running import (
    RunningTask,
    die,
    look_for_cancel,
    process,
    running,
    stack_depth,
)
from plasmid.exceptions import SessionNotFoundError
from plasmid.runtime import bars, host, output
from plasmid.runtime.performer import Performer
from plasmid.runtime.start import WorkerStart

SURPLUS_SECONDS = 10.0
"""A worker beyond num_cpus that has had nothing to do for so long ends."""


def main(start: WorkerStart) -> None:
    """Run tasks until the session ends, this worker is surplus, or a task was to be its last."""
    try:
        arena = core.Arena.attach(start.arena_fd, core.WORKER, start.driver_pidfd, start.bell_fd)
    except SessionNotFoundError:  # shutdown() came first
        return
    engine = LocalEngine(arena)
    current.set_engine(engine)
    process.forked = False  # by the nursery it was
    core.listen_for_cancel(arena, look_for_cancel)
    Worker(Performer(arena, engine, start.threads)).run()


class Worker:
    """One process's task loop.

    What a task's own code raises becomes its result. Whatever is raised outside of that, in the few
    steps between taking a task and running it or between its end and the next, leaves nobody to say
    what became of it: then the process ends, and the core has the task run again. A cancel reaches
    a task's own code only.

    Processes and threads: runs tasks in the thread that calls run(), one on top of the other when a
    task waits for tasks that nobody has taken.
    """

    def __init__(self, performer: Performer) -> None:
        self._performer = performer
        self._arena = performer.arena

    def run(self) -> None:
        try:
            self._run()
        except BaseException:
            die()

    def _run(self) -> None:
        task: core.Running | None = None
        while True:
            if task is None:
                task = core.next_task(self._arena, SURPLUS_SECONDS)
            if task is not None and task.hosted:
                host.run(self._performer, task)
                return
            if task is not None:
                task = self._perform(task, take=True)
                if self._performer.is_worn:
                    self._arena.dismiss_myself()
                    return
            elif self._arena.closing or self._arena.has_surplus:
                return

    def _perform_inside(self, task: core.Running) -> None:
        limit = sys.getrecursionlimit()
        try:
            sys.setrecursionlimit(
                limit + stack_depth()
            )  # it may go as deep as on a stack of its own
            self._perform(task, take=False)
            sys.setrecursionlimit(limit)
        except BaseException:
            die()

    def _perform(self, task: core.Running, *, take: bool) -> core.Running | None:
        """Run a task to its end; the next one, if it is wanted and there is one."""
        outer = running.task
        mine = RunningTask(task, outer.depth + 1 if outer else 0, self._perform_inside)
        running.task = process.task = mine
        output.begin_task(task.name)
        performer = self._performer
        yielded = performer.stream(mine)
        outcome = performer.run(mine, yielded)
        bars.send_rest()
        output.end_task()
        following = performer.conclude(mine, outcome, yielded, take)
        running.task = process.task = outer
        if outer is not None:
            output.begin_task(outer.core.name)
            performer.set_threads(outer.num_cpus)
            performer.show_devices(outer.core)
        return following
