"""Keeper and nursery are killed or stopped: nothing is lost, nobody waits, and others take their
place."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np
import pytest

import plasmid
from plasmid.exceptions import WorkerCrashedError
from processes import Meeting, Processes, Program, command, is_alive, kill, until

ENDINGS = [signal.SIGKILL, signal.SIGSTOP]
BOTH = ["keeper", "nursery"]


@plasmid.remote
def square(x: int) -> int:
    return x * x


@plasmid.remote
def stay(meeting: Any, value: Any = None) -> Any:
    meeting.stay()
    return value


@plasmid.remote
def tree(depth: int) -> int:
    if depth == 0:
        return 1
    return sum(plasmid.get([tree.remote(depth - 1) for _ in range(2)]))


def pid_of(session: Processes, who: str) -> int:
    return session.keeper if who == "keeper" else session.await_new_nursery(0)


def await_another(session: Processes, who: str, old: int) -> int:
    new = session.await_new_keeper(old) if who == "keeper" else session.await_new_nursery(old)
    until(lambda: not is_alive(old), "the old one is gone")
    return new


def use_everything() -> None:
    """put, get, tasks, nested tasks."""
    array = np.arange(200_000)
    ref = plasmid.put(array)
    assert (plasmid.get(ref) == array).all()
    assert plasmid.get([square.remote(x) for x in range(20)]) == [x * x for x in range(20)]
    assert plasmid.get(tree.remote(3)) == 8


# One at a time -----------------------------------------------------------------------------------


@pytest.mark.parametrize("who", BOTH)
@pytest.mark.parametrize("sign", ENDINGS)
def test_idle(session: Processes, who: str, sign: int) -> None:
    before = plasmid.put(np.ones(200_000))
    use_everything()
    workers = session.await_workers()
    old = pid_of(session, who)
    kill(old, sign)
    use_everything()
    await_another(session, who, old)
    use_everything()
    assert (plasmid.get(before) == 1).all()
    assert set(workers) <= set(session.workers()), "workers do not notice"


@pytest.mark.parametrize("who", BOTH)
@pytest.mark.parametrize("sign", ENDINGS)
def test_beside_running_tasks(session: Processes, meeting: Meeting, who: str, sign: int) -> None:
    running = stay.remote(meeting, "done")
    pid = meeting.next()
    queued = [square.remote(x) for x in range(100)]
    old = pid_of(session, who)
    kill(old, sign)
    assert plasmid.get(queued) == [x * x for x in range(100)]
    await_another(session, who, old)
    meeting.release()
    assert plasmid.get(running) == "done"
    assert meeting.nobody()
    assert is_alive(pid)


@pytest.mark.parametrize("who", BOTH)
@pytest.mark.parametrize("sign", ENDINGS)
def test_beside_nested_tasks(session: Processes, who: str, sign: int) -> None:
    refs = [tree.remote(6) for _ in range(4)]
    old = pid_of(session, who)
    kill(old, sign)
    assert plasmid.get(refs) == [64] * 4
    await_another(session, who, old)


@pytest.mark.parametrize("sign", ENDINGS)
def test_nested_tasks_need_neither(session: Processes, meeting: Meeting, sign: int) -> None:
    """Both workers sleep in get for tasks that nobody has taken, and no worker can come."""

    @plasmid.remote
    def outer(meeting: Any, n: int) -> Any:
        meeting.stay()
        return plasmid.get([square.remote(x) for x in range(n)])

    refs = [outer.remote(meeting, n) for n in (10, 20)]
    for _ in refs:
        meeting.next()
    for who in BOTH:
        kill(pid_of(session, who), sign)
    meeting.release(2)
    assert [len(found) for found in plasmid.get(refs)] == [10, 20]


@pytest.mark.parametrize("who", BOTH)
@pytest.mark.parametrize("sign", ENDINGS)
def test_again_and_again(session: Processes, who: str, sign: int) -> None:
    """Each as soon as it is there, in the middle of its start."""
    for n in range(6):
        old = pid_of(session, who)
        kill(old, sign)
        assert plasmid.get(square.remote(n)) == n * n
        until(lambda old=old: pid_of(session, who) != old, "another")
    use_everything()


@pytest.mark.parametrize("who", BOTH)
def test_again_and_again_when_it_has_settled(session: Processes, who: str) -> None:
    for _ in range(5):
        old = pid_of(session, who)
        if who == "nursery":
            until(lambda old=old: command(old) == "plasmid-nursery", "its interpreter runs")
        kill(old)
        await_another(session, who, old)
        use_everything()


def test_a_nursery_that_is_stopped_at_birth_does_not_keep_its_keeper(session: Processes) -> None:
    """Also between fork and exec."""
    for n in range(10):
        old = session.await_new_nursery(0)
        known = {old, *session.workers(), *_children(session.keeper)}
        kill(old)
        new = until(lambda known=known: set(_children(session.keeper)) - known, "a child")
        for pid in new:
            kill(pid, signal.SIGSTOP)
        for pid in session.workers():
            kill(pid)
        assert plasmid.get(square.remote(n)) == n * n
    for pid in _children(session.keeper):
        kill(pid, signal.SIGCONT)


# Together with others ----------------------------------------------------------------------------


@pytest.mark.parametrize("sign", ENDINGS)
def test_a_new_keeper_notices_deaths(session: Processes, meeting: Meeting, sign: int) -> None:
    """Of workers that are not its children, so that nobody can tell how they died."""
    ref = stay.options(max_retries=1).remote(meeting)
    pid = meeting.next()
    old = session.keeper
    kill(old, sign)
    session.await_new_keeper(old)
    kill(pid)
    second = meeting.next()
    kill(second)
    with pytest.raises(WorkerCrashedError) as caught:
        plasmid.get(ref)
    assert caught.value.pid == second
    assert caught.value.signal in (signal.SIGKILL, None)


@pytest.mark.parametrize("sign", ENDINGS)
@pytest.mark.parametrize("first", ["keeper", "worker"])
def test_keeper_and_worker_at_once(
    session: Processes, meeting: Meeting, first: str, sign: int
) -> None:
    ref = stay.remote(meeting, "again")
    worker, keeper = meeting.next(), session.keeper
    order = [(keeper, sign), (worker, signal.SIGKILL)]
    for pid, how in order if first == "keeper" else reversed(order):
        kill(pid, how)
    assert meeting.next() != worker
    meeting.release()
    assert plasmid.get(ref) == "again"


def test_a_death_in_the_keepers_absence_names_no_signal(
    session: Processes, meeting: Meeting
) -> None:
    ref = stay.options(max_retries=0).remote(meeting)
    worker, keeper = meeting.next(), session.keeper
    kill(keeper, signal.SIGSTOP)
    kill(worker)
    with pytest.raises(WorkerCrashedError) as caught:
        plasmid.get(ref)
    assert caught.value.pid == worker
    assert str(worker) in str(caught.value)


@pytest.mark.parametrize("sign", ENDINGS)
def test_nursery_and_workers_at_once(session: Processes, sign: int) -> None:
    refs = [square.remote(x) for x in range(200)]
    kill(session.await_new_nursery(0), sign)
    for pid in session.workers():
        kill(pid)
    assert plasmid.get(refs) == [x * x for x in range(200)]


@pytest.mark.parametrize("sign", ENDINGS)
def test_everyone_but_the_driver_at_once(session: Processes, sign: int) -> None:
    kept = plasmid.put(np.ones(200_000))
    session.await_workers()
    refs = [square.remote(x) for x in range(200)]
    victims = [(session.keeper, sign), (session.await_new_nursery(0), sign)]
    for pid, how in [*victims, *((pid, signal.SIGKILL) for pid in session.workers())]:
        kill(pid, how)
    assert plasmid.get(refs) == [x * x for x in range(200)]
    assert (plasmid.get(kept) == 1).all()


def test_a_worker_that_is_stopped_while_it_starts_is_replaced(session: Processes) -> None:
    """Nobody would ever wait for less: it takes a worker's place without taking part."""
    for _ in range(5):
        for pid in session.await_workers():
            kill(pid)
        # Aims at the moment between the fork and the first look at the arena.
        for pid in _children(session.keeper):
            if command(pid) != "plasmid-nursery" and pid not in session.workers():
                kill(pid, signal.SIGSTOP)
        assert plasmid.get(square.remote(3)) == 9
    for pid in _children(session.keeper):
        kill(pid, signal.SIGCONT)


def _children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


# At the session's start and end ------------------------------------------------------------------


@pytest.mark.parametrize("sign", ["SIGKILL", "SIGSTOP"])
@pytest.mark.parametrize("who", BOTH)
def test_at_the_sessions_start(who: str, sign: str) -> None:
    victim = "session.keeper" if who == "keeper" else "session.await_new_nursery(0)"
    program = Program(
        f"""
        sys.path.insert(0, {__file__!r}.rpartition("/crash/")[0])
        from processes import Processes, kill
        plasmid.init(num_cpus=2)
        session = Processes()
        ref = square.remote(7)
        kill({victim}, signal.{sign})
        print(plasmid.get(ref))
        session.await_workers()
        print(plasmid.get([square.remote(x) for x in range(5)]))
        session.arena.check()
        """
    )
    assert program.end() == "49\n[0, 1, 4, 9, 16]\n"


@pytest.mark.parametrize("who", BOTH)
@pytest.mark.parametrize("sign", ENDINGS)
def test_shutdown_right_after(session: Processes, who: str, sign: int) -> None:
    """The session ends while the successor starts; a second one begins."""
    session.await_workers()
    kill(pid_of(session, who), sign)
    plasmid.shutdown()
    plasmid.init(num_cpus=2)
    session.__init__()  # type: ignore[misc]
    use_everything()
