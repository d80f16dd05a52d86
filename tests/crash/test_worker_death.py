"""A worker dies in the middle of a task: that task is tried again or fails by name; nobody else
notices."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np
import pytest

import plasmid
from plasmid.exceptions import RayTaskError, WorkerCrashedError
from processes import Meeting, Processes, is_alive, kill, until


@plasmid.remote
def stay(meeting: Any, value: Any = None) -> Any:
    meeting.stay()
    return value


@plasmid.remote
def square(x: int) -> int:
    return x * x


def crash_of(ref: plasmid.ObjectRef) -> WorkerCrashedError:
    with pytest.raises(WorkerCrashedError) as caught:
        plasmid.get(ref, timeout=60)
    return caught.value


def cpus() -> float:
    return plasmid.available_resources().get("CPU", 0.0)


# The task ----------------------------------------------------------------------------------------


def test_a_killed_task_is_tried_again(session: Processes, meeting: Meeting) -> None:
    ref = stay.remote(meeting, 7)
    first = meeting.next()
    kill(first)
    assert meeting.next() != first
    meeting.release()
    assert plasmid.get(ref) == 7
    assert cpus() == 2


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_the_last_death_is_named_with_signal_and_pid(
    session: Processes, meeting: Meeting, retries: int
) -> None:
    ref = stay.options(max_retries=retries).remote(meeting)
    for _ in range(retries + 1):
        pid = meeting.next()
        kill(pid)
    error = crash_of(ref)
    assert cpus() == 2, "whoever sees the error sees the CPU, too"
    session.arena.check()
    assert (error.pid, error.signal, error.exit_code) == (pid, signal.SIGKILL, None)
    assert "SIGKILL" in str(error)
    assert str(pid) in str(error)
    assert "stay" in str(error)
    assert meeting.nobody()


def test_three_retries_are_the_default(session: Processes, meeting: Meeting) -> None:
    ref = stay.remote(meeting)
    for _ in range(4):
        kill(meeting.next())
    crash_of(ref)


def test_a_task_may_be_retried_without_end(session: Processes, meeting: Meeting) -> None:
    ref = stay.options(max_retries=-1).remote(meeting, "at last")
    for _ in range(10):
        kill(meeting.next())
    meeting.next()
    meeting.release()
    assert plasmid.get(ref) == "at last"


@pytest.mark.parametrize("status", [0, 1, 255])
def test_an_exit_code_is_told(session: Processes, status: int) -> None:
    @plasmid.remote(max_retries=0)
    def leave() -> None:
        os._exit(status)

    error = crash_of(leave.remote())
    assert (error.exit_code, error.signal) == (status, None)
    assert f"code {status}" in str(error)


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGABRT, signal.SIGBUS, signal.SIGUSR1])
def test_any_deadly_signal_is_told(session: Processes, sign: signal.Signals) -> None:
    @plasmid.remote(max_retries=0)
    def raise_signal(number: int) -> None:
        os.kill(os.getpid(), number)

    error = crash_of(raise_signal.remote(int(sign)))
    assert error.signal == sign
    assert sign.name in str(error)


def test_a_segmentation_fault_shows_where_it_was(
    session: Processes, capsys: pytest.CaptureFixture[str]
) -> None:
    @plasmid.remote(max_retries=0)
    def fall() -> None:
        import ctypes

        ctypes.string_at(0)

    shown = []

    def seen() -> bool:
        shown.append(capsys.readouterr().err)
        return "in fall" in "".join(shown)

    assert crash_of(fall.remote()).signal == signal.SIGSEGV
    until(seen, "the stack of the task")
    assert "Segmentation fault" in "".join(shown)


def test_what_was_printed_before_the_death_is_shown(
    session: Processes, capsys: pytest.CaptureFixture[str]
) -> None:
    @plasmid.remote(max_retries=0)
    def last_words() -> None:
        print("adieu")
        print("without an end", end="", flush=True)
        os._exit(1)

    shown = []

    def seen() -> bool:
        shown.append(capsys.readouterr().out)
        return "without an end" in "".join(shown)

    crash_of(last_words.remote())
    until(seen, "what it wrote")
    assert ") adieu\n" in "".join(shown)


def test_the_error_reaches_whoever_depends_on_the_result(
    session: Processes, meeting: Meeting
) -> None:
    first = stay.options(max_retries=0).remote(meeting)
    second = square.remote(first)
    third = square.remote(second)
    pid = meeting.next()
    kill(pid)
    for ref in (third, second, first):
        assert crash_of(ref).pid == pid


def test_all_results_of_a_task_carry_the_error(session: Processes, meeting: Meeting) -> None:
    refs = stay.options(max_retries=0, num_returns=100).remote(meeting)
    kill(meeting.next())
    assert {str(crash_of(ref)) for ref in refs} == {str(crash_of(refs[0]))}


def test_an_exception_is_no_crash_and_a_crash_no_exception(
    session: Processes, meeting: Meeting
) -> None:
    """`retry_exceptions` and deaths draw on the same retries."""

    @plasmid.remote(max_retries=1, retry_exceptions=True)
    def stay_and_raise(meeting: Any) -> None:
        meeting.stay()
        raise KeyError("raised")

    ref = stay_and_raise.remote(meeting)
    kill(meeting.next())
    meeting.next()
    meeting.release()
    with pytest.raises(RayTaskError) as caught:
        plasmid.get(ref)
    assert isinstance(caught.value, KeyError)


# The others --------------------------------------------------------------------------------------


def test_a_task_beside_it_does_not_notice(session: Processes, meeting: Meeting) -> None:
    other = stay.remote(meeting, "well")
    pid = meeting.next()
    doomed = stay.options(max_retries=0).remote(meeting)
    kill(meeting.next())
    crash_of(doomed)
    meeting.release()
    assert plasmid.get(other) == "well"
    assert meeting.nobody(), "it ran once"
    assert is_alive(pid)


def test_put_objects_outlive_the_worker_that_put_them(session: Processes) -> None:
    @plasmid.remote
    def make() -> tuple[int, plasmid.ObjectRef]:
        return os.getpid(), plasmid.put(np.arange(100_000))

    pid, ref = plasmid.get(make.remote())
    before = plasmid.get(ref)
    kill(pid)
    until(lambda: pid not in {c.pid for c in session.arena.clients()}, "swept")
    assert (plasmid.get(ref) == np.arange(100_000)).all()
    assert (before == np.arange(100_000)).all()
    session.arena.check()


def test_what_only_the_dead_worker_had_is_freed(session: Processes) -> None:
    """References in globals, views of arrays with their pins, and objects that it had put."""

    @plasmid.remote
    def hoard(refs: list[plasmid.ObjectRef]) -> int:
        import builtins

        mine = [plasmid.put(bytes(100_000)) for _ in range(50)]
        builtins.hoard = (mine, plasmid.get(refs))  # type: ignore[attr-defined]
        return os.getpid()

    used = session.arena.stats()["heap_used"]
    refs = [plasmid.put(np.ones(100_000)) for _ in range(50)]
    pid = plasmid.get(hoard.remote(refs))
    del refs
    assert session.arena.stats()["heap_used"] - used > 40_000_000
    kill(pid)
    until(lambda: session.arena.stats()["heap_used"] - used < 100_000, "memory is back")


def test_a_worker_killed_when_idle_is_replaced(session: Processes) -> None:
    for _ in range(3):
        for pid in session.await_workers():
            kill(pid)
        until(lambda: len(session.workers()) == 2, "both replaced")
    assert plasmid.get([square.remote(x) for x in range(10)]) == [x * x for x in range(10)]


def test_a_thousand_queued_tasks_are_all_done(session: Processes) -> None:
    refs = [square.remote(x) for x in range(1000)]
    for ref in refs[100:1000:300]:
        plasmid.get(ref)
        for pid in session.workers():
            kill(pid)
    assert plasmid.get(refs) == [x * x for x in range(1000)]


def test_tasks_that_always_kill_their_worker_end_with_errors(session: Processes) -> None:
    @plasmid.remote(max_retries=2)
    def poison() -> None:
        os._exit(3)

    bad = [poison.remote() for _ in range(30)]
    good = [square.remote(x) for x in range(30)]
    assert plasmid.get(good) == [x * x for x in range(30)]
    assert {crash_of(ref).exit_code for ref in bad} <= {3, None}


# Nested ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["outer", "inner"])
def test_one_of_two_that_are_nested_is_killed(
    session: Processes, meeting: Meeting, victim: str
) -> None:
    """`outer` sleeps in get for `inner`, which another worker has taken before."""

    @plasmid.remote
    def outer(meeting: Any, refs: list[plasmid.ObjectRef]) -> Any:
        meeting.arrive()
        return plasmid.get(refs[0])

    inner = stay.remote(meeting, "inner")
    inner_pid = meeting.next()
    ref = outer.remote(meeting, [inner])
    outer_pid = meeting.next()
    assert outer_pid != inner_pid
    # Asleep: it has lent its CPU.
    until(lambda: cpus() == 1, "the outer one waits")
    kill(inner_pid if victim == "inner" else outer_pid)
    assert meeting.next()
    meeting.release()
    assert plasmid.get(ref) == "inner"
    assert cpus() == 2


def test_tasks_on_one_stack_die_together_and_are_tried_again(
    session: Processes, meeting: Meeting
) -> None:
    """Each waits for the next, on the same worker: the sweep takes them from the top."""

    @plasmid.remote
    def down(depth: int, meeting: Any) -> int:
        if depth == 0:
            meeting.stay()
            return 0
        return 1 + int(plasmid.get(down.remote(depth - 1, meeting)))

    ref = down.remote(5, meeting)
    kill(meeting.next())
    # Each of the six is tried again, and those that were called by another call theirs again.
    meeting.release(20)
    assert plasmid.get(ref) == 5
    until(lambda: cpus() == 2, "those that nobody waits for any more have ended, too")


def test_many_levels_and_many_deaths(session: Processes) -> None:
    @plasmid.remote(max_retries=-1)
    def tree(depth: int) -> int:
        if depth == 0:
            return 1
        return sum(plasmid.get([tree.remote(depth - 1) for _ in range(3)]))

    ref = tree.remote(5)
    for _ in range(10):
        kill(session.await_workers(1)[0])
        done, _ = plasmid.wait([ref], timeout=0.05)
        if done:
            break
    assert plasmid.get(ref, timeout=90) == 3**5


# Results -----------------------------------------------------------------------------------------


def test_a_worker_is_killed_while_it_writes_a_large_result(session: Processes) -> None:
    @plasmid.remote(max_retries=1)
    def large() -> np.ndarray[Any, Any]:
        return np.ones(50_000_000)

    def filled() -> int:
        return int(session.arena.stats()["heap_used"])

    before = filled()
    ref = large.remote()
    victim = until(
        lambda: filled() - before > 300_000_000 and _busy(session), "it is being written"
    )
    kill(victim)
    value = plasmid.get(ref)
    assert float(value.sum()) == 50_000_000.0
    assert filled() - before < 500_000_000, "the first half-written result is freed"
    del value, ref
    assert filled() - before < 100_000, "all but the function"


def _busy(session: Processes) -> int:
    for pid in session.workers():
        if pid and is_alive(pid) and "R" in _states(pid):
            return pid
    return 0


def _states(pid: int) -> str:
    found = ""
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/stat") as file:
            found += file.read().rpartition(")")[2].split()[0]
    return found


@pytest.mark.parametrize("delay", [0.0, 0.001, 0.003, 0.01, 0.03])
def test_a_worker_is_killed_while_it_finishes_with_thousands_of_results(
    session: Processes, meeting: Meeting, delay: float
) -> None:
    """The finish is one decision, however many steps it takes: all results or none. The delays aim
    at its steps."""
    count = 3000

    @plasmid.remote(num_returns=count)
    def many(meeting: Any) -> list[Any]:
        inside = plasmid.put("inside")
        meeting.stay()
        return [[n, inside] for n in range(count)]

    refs = many.remote(meeting)
    pid = meeting.next()
    meeting.release(2)
    time.sleep(delay)
    kill(pid)
    values = plasmid.get(refs, timeout=60)
    assert [n for n, _ in values] == list(range(count))
    assert {plasmid.get(inside) for _, inside in values[::100]} == {"inside"}
    del values, refs
