"""Stopped processes (SIGSTOP, Ctrl-Z, a debugger, a frozen cgroup): nobody else waits for them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

import plasmid
from plasmid.exceptions import GetTimeoutError
from processes import Meeting, Processes, is_alive, is_stopped, kill, until


@plasmid.remote
def square(x: int) -> int:
    return x * x


@plasmid.remote
def stay(meeting: Any, value: Any = None) -> Any:
    meeting.stay()
    return value


@pytest.fixture
def stop() -> Iterator[Any]:
    """Stops processes, and lets them go on after the test."""
    stopped: list[int] = []

    def halt(pid: int) -> None:
        kill(pid, signal.SIGSTOP)
        until(lambda: is_stopped(pid) or not is_alive(pid), f"{pid} is stopped")
        stopped.append(pid)

    yield halt
    for pid in stopped:
        kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("which", [0, 1])
def test_an_idle_worker(session: Processes, stop: Any, which: int) -> None:
    """It may be the one that the next task calls; another takes the task."""
    pids = session.await_workers()
    until(lambda: session.arena.stats()["idle"] == 2, "both are idle")
    stop(pids[which])
    for n in range(5):
        assert plasmid.get(square.remote(n)) == n * n
    assert plasmid.get([square.remote(x) for x in range(100)]) == [x * x for x in range(100)]
    kill(pids[which], signal.SIGCONT)
    assert plasmid.get([square.remote(x) for x in range(100)]) == [x * x for x in range(100)]


def test_an_idle_worker_that_was_called_already(session: Processes, stop: Any) -> None:
    """Stopped at once after the submit, between its call and its look at the queue."""
    for n in range(20):
        pids = session.await_workers()
        ref = square.remote(n)
        stop(pids[n % 2])
        if not is_stopped(pids[n % 2]):
            continue
        kill(pids[n % 2], signal.SIGCONT) if n % 4 > 1 else None
        try:
            assert plasmid.get(ref, timeout=1) == n * n
        except GetTimeoutError:  # it had taken the task: then only it can do it
            kill(pids[n % 2], signal.SIGCONT)
            assert plasmid.get(ref) == n * n
        kill(pids[n % 2], signal.SIGCONT)


def test_all_idle_workers(session: Processes, stop: Any) -> None:
    for pid in session.await_workers():
        stop(pid)
    assert plasmid.get([square.remote(x) for x in range(10)]) == [x * x for x in range(10)]


def test_a_busy_worker_keeps_its_task(session: Processes, meeting: Meeting, stop: Any) -> None:
    ref = stay.remote(meeting, "late")
    pid = meeting.next()
    stop(pid)
    assert plasmid.get([square.remote(x) for x in range(100)]) == [x * x for x in range(100)]
    meeting.release()
    with pytest.raises(GetTimeoutError):
        plasmid.get(ref, timeout=0.2)
    kill(pid, signal.SIGCONT)
    assert plasmid.get(ref) == "late"
    assert meeting.nobody(), "it was not run again"


def test_a_worker_that_sleeps_in_get(session: Processes, meeting: Meeting, stop: Any) -> None:
    """What it waits for is done by others; it goes on with it when it may."""

    @plasmid.remote
    def outer(meeting: Any, refs: list[plasmid.ObjectRef]) -> Any:
        meeting.arrive()
        return plasmid.get(refs[0])

    inner = stay.remote(meeting, "inner")
    meeting.next()
    ref = outer.remote(meeting, [inner])
    pid = meeting.next()
    until(lambda: session.arena.cpu_free == 1, "it sleeps")
    stop(pid)
    meeting.release()
    assert plasmid.get(inner) == "inner"
    kill(pid, signal.SIGCONT)
    assert plasmid.get(ref) == "inner"


def test_a_stopped_worker_can_be_killed(session: Processes, meeting: Meeting, stop: Any) -> None:
    ref = stay.remote(meeting, "again")
    pid = meeting.next()
    stop(pid)
    kill(pid)
    assert meeting.next() != pid
    meeting.release()
    assert plasmid.get(ref) == "again"


def test_stopped_in_the_middle_of_anything(session: Processes, stop: Any) -> None:
    """Workers are stopped at random while they put, submit and get as fast as they can. One that
    has the lock is killed after a second, and its task tried again; others hold up nobody but who
    waits for them."""

    @plasmid.remote(max_retries=-1)
    def busy(n: int) -> int:
        kept = []
        for i in range(n):
            kept.append(plasmid.put([i]))
            assert plasmid.get(kept[i // 2]) == [i // 2]
        return n

    refs = [busy.remote(20_000) for _ in range(4)]
    for n in range(30):
        pids = session.await_workers(1)
        pid = pids[n % len(pids)]
        stop(pid)
        ref = plasmid.put([n])
        assert plasmid.get(ref) == [n]
        kill(pid, signal.SIGCONT)
    assert plasmid.get(refs) == [20_000] * 4


@pytest.mark.parametrize("who", ["keeper", "nursery"])
def test_keeper_and_nursery_are_replaced(session: Processes, stop: Any, who: str) -> None:
    """And nobody has waited; see test_keeper_death for more."""
    session.await_workers()
    old = session.keeper if who == "keeper" else session.await_new_nursery(0)
    kill(old, signal.SIGSTOP)
    assert plasmid.get([square.remote(x) for x in range(100)]) == [x * x for x in range(100)]
    if who == "keeper":
        session.await_new_keeper(old)
    else:
        session.await_new_nursery(old)


def test_time_limits_are_kept_beside_a_stopped_keeper(
    session: Processes, meeting: Meeting, stop: Any
) -> None:
    """Waits end in time in the program, in tasks, and in actors."""

    @plasmid.remote(num_cpus=0)
    def try_get(refs: list[Any]) -> bool:
        try:
            plasmid.get(refs[0], timeout=0.05)
        except GetTimeoutError:
            return True
        return False

    never = stay.remote(meeting)
    meeting.next()
    assert plasmid.get(try_get.remote([never]))
    for _ in range(3):
        stop(session.keeper)
        with pytest.raises(GetTimeoutError):
            plasmid.get(never, timeout=0.05)
        assert plasmid.wait([never], timeout=0.05) == ([], [never])
        assert plasmid.get(try_get.remote([never]), timeout=60)
        with pytest.raises(TimeoutError):
            never.future().result(timeout=0.05)
    meeting.release()
    plasmid.get(never)


def test_shutdown_ends_stopped_processes(session: Processes, meeting: Meeting, stop: Any) -> None:
    stay.remote(meeting)
    stop(meeting.next())
    for pid in session.workers():
        stop(pid)
    pids = session.workers()
    plasmid.shutdown()
    until(lambda: not any(map(is_alive, pids)), "all are gone")
    plasmid.init(num_cpus=2)
    session.__init__()  # type: ignore[misc]
