"""Deaths around an actor: of who made it, of who calls it, its own in the middle of anything."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

import plasmid
from plasmid.exceptions import (
    ActorDiedError,
    GetTimeoutError,
    RayActorError,
    WorkerCrashedError,
)
from plasmid.util.state import list_actors
from processes import Meeting, Processes, kill, until

SECONDS = 60


class Counts:
    def __init__(self) -> None:
        self.n = 0

    def add(self) -> int:
        self.n += 1
        return self.n

    def pid(self) -> int:
        return os.getpid()

    def stay(self, meeting: Any) -> int:
        meeting.stay()
        return self.add()

    def items(self, meeting: Any) -> Any:
        yield 0
        yield 1
        meeting.stay()
        yield 2


class Awaits:
    async def sleep(self, seconds: float) -> float:
        import asyncio

        await asyncio.sleep(seconds)
        return seconds

    async def pid(self) -> int:
        return os.getpid()


def actor(cls: type = Counts, **options: Any) -> Any:
    return plasmid.remote(cls).options(num_cpus=0, **options).remote()


def get(ref: Any) -> Any:
    return plasmid.get(ref, timeout=SECONDS)


def gone() -> bool:
    return list_actors() == []


@plasmid.remote(max_retries=0)
def make_and_stay(meeting: Any, kept: list[Any]) -> None:
    made = actor()
    get(made.add.remote())
    if kept:
        get(kept[0].put.remote([made]))
    meeting.stay()


class Shelf:
    def put(self, things: list[Any]) -> None:
        self.things = things

    def take(self) -> Any:
        return self.things.pop()


def test_killed_is_who_made_it(session: Processes, meeting: Meeting) -> None:
    """With nobody else to call it, it ends; else it does not notice."""
    ref = make_and_stay.remote(meeting, [])
    kill(meeting.next())
    with pytest.raises(WorkerCrashedError):
        get(ref)
    until(gone, "it has ended")
    shelf = actor(Shelf)
    ref = make_and_stay.remote(meeting, [shelf])
    kill(meeting.next())
    with pytest.raises(WorkerCrashedError):
        get(ref)
    made = get(shelf.take.remote())
    assert get(made.add.remote()) == 2


@plasmid.remote(max_retries=0)
def call_and_stay(meeting: Any, called: Any) -> None:
    refs = [called.add.remote() for _ in range(100)]
    late = called.stay.remote(meeting)
    plasmid.get([*refs, late])


def test_killed_is_a_caller_in_the_middle_of_a_call(session: Processes, meeting: Meeting) -> None:
    """What it has called is done, in order, and holds up nobody."""
    called = actor()
    ref = call_and_stay.remote(meeting, called)
    actor_pid = meeting.next()
    [caller] = set(session.workers()) - {actor_pid} - idle(session)
    kill(caller)
    with pytest.raises(WorkerCrashedError):
        get(ref)
    mine = called.add.remote()
    with pytest.raises(GetTimeoutError):
        plasmid.get(mine, timeout=0.1)
    meeting.release()
    assert get(mine) == 102


def idle(session: Processes) -> set[int]:
    """Workers that run nothing."""
    from plasmid.engine import current

    running = {each["worker_pid"] for each in current.engine.tasks() if not each["ended"]}
    return set(session.workers()) - running


def test_a_stored_handle_outlives_all_others(session: Processes) -> None:
    @plasmid.remote
    def make() -> None:
        plasmid.put({"deep": [actor()]}, name="of an actor", lifetime="detached")

    get(make.remote())
    for n in (1, 2):
        found = get(plasmid.get_object("of an actor"))["deep"][0]
        assert get(found.add.remote()) == n
        del found
    plasmid.delete_object("of an actor")
    until(gone, "it has ended")


@pytest.mark.parametrize("restarts", [0, 1])
def test_killed_in_the_middle_of_a_generator(
    session: Processes, meeting: Meeting, restarts: int
) -> None:
    """What was yielded stays; then comes its end, and the next call."""
    called = actor(max_restarts=restarts)
    stream = called.items.remote(meeting)
    assert [get(next(stream)) for _ in range(2)] == [0, 1]
    kill(meeting.next())
    with pytest.raises(RayActorError):
        get(next(stream))
    with pytest.raises(StopIteration):
        next(stream)
    if restarts:
        assert get(called.add.remote()) == 1
    else:
        with pytest.raises(ActorDiedError, match=r"killed|SIGKILL|signal"):
            get(called.add.remote())


def test_killed_with_a_thousand_coroutines(session: Processes) -> None:
    called = actor(Awaits)
    refs = [called.sleep.remote(1000) for _ in range(1000)]
    kill(pid_of(called))
    for ref in refs:
        with pytest.raises(ActorDiedError):
            get(ref)


def pid_of(called: Any) -> int:
    until(lambda: any(each.pid for each in list_actors()), "it has begun")
    return int(list_actors()[0].pid)


def test_killed_until_no_restart_is_left(session: Processes) -> None:
    called = actor(max_restarts=2, max_task_retries=-1)
    pids = set()
    for n in range(3):
        pids.add(get(called.pid.remote()))
        assert [get(called.add.remote()) for _ in range(2)] == [1, 2]
        assert list_actors(detail=True)[0].num_restarts == n
        kill(get(called.pid.remote()))
    with pytest.raises(ActorDiedError):
        get(called.add.remote())
    assert len(pids) == 3


@pytest.mark.parametrize("sign", [signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM])
def test_the_cause_of_death_is_told(session: Processes, sign: signal.Signals) -> None:
    called = actor()
    get(called.add.remote())
    kill(pid_of(called), sign)
    with pytest.raises(ActorDiedError, match=sign.name):
        get(called.add.remote())
