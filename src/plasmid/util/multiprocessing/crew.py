"""The processes of a pool: each an actor, with a thread here that feeds it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any

from plasmid import api
from plasmid.actor import kill
from plasmid.exceptions import ActorDiedError
from plasmid.util.multiprocessing.results import Settle

AHEAD = 2
"""Calls that a process has at a time: one that runs, and one that it goes on with at once."""


@dataclass
class Job:
    """A call of a process: its method and arguments, and whom to tell what came of it."""

    method: str
    args: tuple[Any, ...]
    settle: Settle


class Crew:
    """`size` processes that take jobs from one queue, as long as there is somebody to `put`.

    make        makes an actor
    most_calls  after so many calls a process is replaced; None: never

    Processes and threads: any thread may call anything. A job is settled in the thread of the
    process that ran it.
    """

    def __init__(self, make: Callable[[], Any], size: int, most_calls: int | None) -> None:
        self.make = make
        self.most_calls = most_calls
        self.broken: BaseException | None = None
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._idle = 0
        self._is_ending = False
        self._members = [_Member(self) for _ in range(size)]
        for member in self._members:
            member.thread.start()

    def __len__(self) -> int:
        return len(self._members)

    def put(self, job: Job) -> None:
        """What the crew is broken by is raised."""
        with self._changed:
            if self.broken is not None:
                raise copy(self.broken)
            self._jobs.append(job)
            self._changed.notify()

    def end(self) -> None:
        """The processes end when there is nothing left to do."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()

    def break_by(self, error: BaseException) -> None:
        """No job begins any more: each raises this."""
        with self._changed:
            # Copies are raised: by its traceback an error leads to whoever has called, and to us.
            self.broken = self.broken or copy(error)
            left, self._jobs = self._jobs, deque()
        for job in left:
            job.settle(None, copy(error))

    def kill(self, error: BaseException) -> None:
        self.break_by(error)
        self.end()
        for member in self._members:
            if (actor := member.actor) is not None:
                kill(actor)

    def join(self) -> None:
        """Until all processes have ended."""
        for member in self._members:
            if member.thread is not threading.current_thread():  # a callback
                member.thread.join()

    def take(self, may_wait: bool) -> Job | None:
        """The next job. None if there is none, but for what an idle process is about to take; with
        `may_wait`, when there will be none."""
        with self._changed:
            while True:
                if len(self._jobs) > (0 if may_wait else self._idle):
                    return self._jobs.popleft()
                if not may_wait or self._is_ending:
                    return None
                self._idle += 1
                self._changed.wait()
                self._idle -= 1


class _Member:
    """One process. `thread` runs as long as it is wanted."""

    def __init__(self, crew: Crew) -> None:
        self.actor: Any = crew.make()  # None after the end
        self._calls = 0  # of this actor
        self._running: deque[tuple[Job, Any]] = deque()
        self.thread = threading.Thread(target=self._serve, args=(crew,), daemon=True)

    def _serve(self, crew: Crew) -> None:
        try:
            self._work(crew)
        except BaseException as error:  # the session has ended
            crew.break_by(error)
            for job, _ in self._running:
                job.settle(None, error)
        self.actor = None
        self._running.clear()

    def _work(self, crew: Crew) -> None:
        while True:
            if self._calls == crew.most_calls and not self._running:
                self._replace(crew)
            job = None
            if len(self._running) < AHEAD and self._calls != crew.most_calls:
                job = crew.take(may_wait=not self._running)
            if job is not None:
                self._begin(job)
            elif self._running:
                self._finish(crew)
            else:
                break
        api.wait([self.actor.__ray_terminate__.remote()])

    def _replace(self, crew: Crew) -> None:
        """The one before ends, as nobody has its handle any more."""
        self.actor, self._calls = crew.make(), 0

    def _begin(self, job: Job) -> None:
        try:
            ref = getattr(self.actor, job.method).remote(*job.args)
        except BaseException as error:  # of an argument
            job.settle(None, error)
            return
        self._calls += 1
        self._running.append((job, ref))

    def _finish(self, crew: Crew) -> None:
        """Settle the oldest call."""
        job, ref = self._running.popleft()
        value = error = None
        try:
            value = api.get(ref)
        except BaseException as raised:
            # With its traceback it would lead to this frame, and the reference go late.
            error = raised.with_traceback(None)
        if isinstance(error, ActorDiedError) and error.actor_init_failed:
            crew.break_by(error)
        job.settle(value, error)
        if isinstance(error, ActorDiedError) and crew.broken is None:
            self._start_again(crew)

    def _start_again(self, crew: Crew) -> None:
        """The process ended of its own accord, by exit_actor() say, as it would have been started
        again else. Calls after that one have not begun."""
        self._replace(crew)
        left, self._running = self._running, deque()
        for job, _ in left:
            self._begin(job)
        if crew.broken is not None:  # meanwhile: its kill was of the one before
            kill(self.actor)
