"""cancel: queued, waiting and running tasks, trees of them, and races with their ends."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support import Gate, arena, until

import plasmid
from plasmid.exceptions import (
    RayTaskError,
    TaskCancelledError,
)

pytestmark = pytest.mark.usefixtures("session")

FOREVER = 3600


@plasmid.remote
def identity(x: Any) -> Any:
    return x


@plasmid.remote
def stay(gate: Gate, after: Any = None) -> int:
    gate.wait()
    return os.getpid()


def cancelled(ref: Any) -> TaskCancelledError:
    """What get raises of a cancelled task."""
    with pytest.raises(TaskCancelledError) as caught:
        plasmid.get(ref)
    return caught.value


# Not running yet ----------------------------------------------------------------------------------


def test_a_queued_task_ends_at_once_and_never_runs(gate: Gate, tmp_path: Path) -> None:
    @plasmid.remote(num_returns=3)
    def leave_a_trace() -> Any:
        (tmp_path / "trace").touch()
        return 1, 2, 3

    busy = [stay.remote(gate) for _ in range(2)]
    gate.await_arrivals(2)
    refs = leave_a_trace.remote()
    plasmid.cancel(refs[1])
    for ref in refs:
        error = cancelled(ref)
        assert str(error) == "leave_a_trace() was cancelled before it ran"
        assert isinstance(error.task_id, int)
    gate.open()
    plasmid.get(busy)
    assert plasmid.get(identity.remote(1)) == 1
    assert not (tmp_path / "trace").exists()


def test_a_task_that_waits_for_arguments_ends_at_once(gate: Gate) -> None:
    first = stay.remote(gate)
    gate.await_arrivals(1)
    second = identity.remote(first)
    third = identity.remote(second)
    plasmid.cancel(second)
    assert "before it ran" in str(cancelled(second))
    assert "identity() was cancelled before it ran" in str(cancelled(third))  # the first cause
    gate.open()
    assert plasmid.get(first)


def test_force_is_the_same_for_a_queued_task(gate: Gate) -> None:
    busy = [stay.remote(gate) for _ in range(2)]
    gate.await_arrivals(2)
    queued = identity.remote(1)
    plasmid.cancel(queued, force=True)
    cancelled(queued)
    gate.open()
    assert len(set(plasmid.get(busy))) == 2


# Running ------------------------------------------------------------------------------------------


def spin(gate: Gate) -> None:
    gate.wait()
    while True:
        pass


def sleep(gate: Gate) -> None:
    gate.wait()
    time.sleep(FOREVER)


def read_a_pipe(gate: Gate) -> None:
    gate.wait()
    os.read(os.pipe()[0], 1)


def take_a_lock(gate: Gate) -> None:
    lock = threading.Lock()
    lock.acquire()
    gate.wait()
    lock.acquire()


def get_another(gate: Gate) -> None:
    gate.wait()
    plasmid.get(never.remote())


def get_with_a_timeout(gate: Gate) -> None:
    gate.wait()
    plasmid.get(never.remote(), timeout=FOREVER)


def wait_for_some(gate: Gate) -> None:
    gate.wait()
    plasmid.wait([never.remote() for _ in range(5)], num_returns=2)


async def sleep_async(gate: Gate) -> None:
    gate.wait()
    await asyncio.sleep(FOREVER)


async def await_another(gate: Gate) -> None:
    gate.wait()
    await never.remote()


@plasmid.remote
def never() -> None:
    time.sleep(FOREVER)


@pytest.mark.parametrize(
    "function",
    [
        spin,
        sleep,
        read_a_pipe,
        take_a_lock,
        get_another,
        get_with_a_timeout,
        wait_for_some,
        sleep_async,
        await_another,
    ],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("force", [False, True], ids=["", "force"])
def test_a_running_task_is_interrupted(function: Any, force: bool, gate: Gate) -> None:
    ref = plasmid.remote(max_retries=-1, retry_exceptions=True)(function).remote(gate)
    gate.await_arrivals(1)
    gate.open()
    plasmid.cancel(ref, force=force)
    error = cancelled(ref)
    if force:
        assert str(error) == f"{function.__name__}() was cancelled, and its worker process ended"
        assert not isinstance(error, RayTaskError)
    else:
        assert isinstance(error, RayTaskError)
        assert f"{function.__name__}() was cancelled while it ran in process" in str(error)
        assert isinstance(error.cause, TaskCancelledError)
    until(lambda: arena().stats()["tasks"] == 0, "the tasks that it waited for are cancelled, too")
    assert plasmid.get([identity.remote(i) for i in range(4)]) == list(range(4))


def workers() -> set[int]:
    return {client.pid for client in arena().clients()}


def test_the_worker_of_an_interrupted_task_goes_on(gate: Gate) -> None:
    ref = stay.remote(gate)
    gate.await_arrivals(1)
    before = workers()
    plasmid.cancel(ref)
    error: Any = cancelled(ref)
    assert error.pid in before
    plasmid.get([identity.remote(i) for i in range(4)])
    assert error.pid in workers()


def test_what_a_task_makes_of_the_interrupt_counts(gate: Gate) -> None:
    @plasmid.remote(max_retries=-1)
    def answer(gate: Gate, how: str) -> str:
        try:
            gate.wait()
            time.sleep(FOREVER)
        except KeyboardInterrupt:
            if how == "raise":
                raise ValueError("no") from None
            plasmid.get(identity.remote(1))  # to clear up it may use tasks
        return how

    for how in ("return", "raise"):
        ref = answer.remote(gate, how)
        gate.await_arrivals(1 if how == "return" else 2)
        plasmid.cancel(ref)
        if how == "return":
            assert plasmid.get(ref) == how
        else:
            with pytest.raises(ValueError, match="no"):
                plasmid.get(ref)


def test_a_task_that_did_not_listen_is_interrupted_again(gate: Gate) -> None:
    @plasmid.remote
    def deaf(first: Gate, second: Gate) -> None:
        try:
            first.wait()
        except KeyboardInterrupt:
            second.wait()

    second = Gate(Path(gate.path).parent, "second")
    ref = deaf.remote(gate, second)
    gate.await_arrivals(1)
    plasmid.cancel(ref)
    second.await_arrivals(1)
    plasmid.cancel(ref)
    cancelled(ref)
    second.open()


def test_a_coroutine_may_clear_up_and_may_refuse(tmp_path: Path, gate: Gate) -> None:
    @plasmid.remote
    async def tidy(gate: Gate, refuse: bool) -> str:
        gate.wait()
        try:
            await asyncio.sleep(FOREVER)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            (tmp_path / f"tidied {refuse}").touch()
            if not refuse:
                raise
        return "kept"

    one, two = tidy.remote(gate, False), tidy.remote(gate, True)
    gate.await_arrivals(2)
    gate.open()
    plasmid.cancel(one)
    plasmid.cancel(two)
    cancelled(one)
    assert plasmid.get(two) == "kept"
    assert {path.name for path in tmp_path.glob("tidied*")} == {"tidied False", "tidied True"}


def test_a_cancel_while_arguments_are_unpacked_ends_the_task(gate: Gate) -> None:
    class Slow:
        def __init__(self, gate: Gate) -> None:
            self.gate = gate

        def __setstate__(self, state: dict[str, Any]) -> None:
            state["gate"].wait()  # an interrupt here would be the end of the worker
            self.__dict__ = state

    @plasmid.remote(num_cpus=2)
    def use(slow: Slow) -> None:
        raise AssertionError("it was cancelled before")

    ref = use.remote(Slow(gate))
    gate.await_arrivals(1)
    plasmid.cancel(ref)
    gate.open()
    error: Any = cancelled(ref)
    os.kill(error.pid, 0)
    assert error.pid in workers()


def test_a_cancel_while_results_are_packed_comes_too_late(gate: Gate) -> None:
    class Slow:
        def __init__(self, gate: Gate) -> None:
            self.gate = gate

        def __reduce__(self) -> Any:
            self.gate.wait()
            return str, ("packed",)

    @plasmid.remote
    def make(gate: Gate) -> Slow:
        return Slow(gate)

    ref = make.remote(gate)
    gate.await_arrivals(1)
    plasmid.cancel(ref)
    gate.open()
    assert plasmid.get(ref) == "packed"


# Several tasks on one stack -----------------------------------------------------------------------


def test_a_task_below_another_is_interrupted_when_it_has_control_again(gate: Gate) -> None:
    @plasmid.remote(num_cpus=2)
    def inner(gate: Gate) -> int:
        gate.wait()
        return os.getpid()

    @plasmid.remote(num_cpus=2)
    def outer(gate: Gate) -> Any:
        ref = inner.remote(gate)
        pids = plasmid.get(ref), os.getpid()
        raise AssertionError(f"not interrupted: {pids}")

    ref = outer.remote(gate)
    gate.await_arrivals(1)
    plasmid.cancel(ref, recursive=False)
    gate.open()
    cancelled(ref)


def test_the_inner_of_two_is_cancelled_alone(gate: Gate) -> None:
    @plasmid.remote(num_cpus=2)
    def parent(gate: Gate) -> str:
        ref = stay.options(num_cpus=2).remote(gate)

        def later() -> None:
            gate.await_arrivals(1)
            plasmid.cancel(ref)

        thread = threading.Thread(target=later)
        thread.start()
        try:
            plasmid.get(ref)
        except TaskCancelledError:
            thread.join()
            return "seen"
        return "not seen"

    assert plasmid.get(parent.remote(gate)) == "seen"


def test_force_below_another_has_the_other_run_again(gate: Gate, tmp_path: Path) -> None:
    @plasmid.remote(num_cpus=2, max_retries=1)
    def inner(gate: Gate) -> str:
        gate.wait()
        return "done"

    @plasmid.remote(num_cpus=2)
    def outer(refs: list[Any]) -> Any:
        return plasmid.get(refs[0])

    first = stay.options(num_cpus=2).remote(gate)
    gate.await_arrivals(1)
    second = inner.remote(gate)
    top = outer.remote([second])
    plasmid.cancel(first)  # then outer is at the head, and runs inner on its stack
    cancelled(first)
    gate.await_arrivals(2)
    plasmid.cancel(top, force=True, recursive=False)
    gate.open()
    assert plasmid.get(second) == "done"
    cancelled(top)


# Trees --------------------------------------------------------------------------------------------


@plasmid.remote(num_cpus=0)
def tree(gate: Gate, depth: int) -> int:
    """Its leaves stay."""
    if depth == 0:
        gate.wait()
        time.sleep(FOREVER)
    return sum(plasmid.get([tree.remote(gate, depth - 1) for _ in range(2)]))


@pytest.mark.parametrize("force", [False, True])
def test_a_tree_is_cancelled_from_its_root(gate: Gate, force: bool) -> None:
    ref = tree.remote(gate, 3)
    gate.await_arrivals(1)
    plasmid.cancel(ref, force=force)
    cancelled(ref)
    gate.open()
    until(lambda: arena().stats()["tasks"] == 0, "tasks of the tree are left")


def test_without_recursive_the_children_go_on(gate: Gate) -> None:
    @plasmid.remote(num_cpus=0)
    def parent(gate: Gate) -> None:
        plasmid.wait([stay.options(num_cpus=0).remote(gate)], timeout=FOREVER)

    ref = parent.remote(gate)
    gate.await_arrivals(1)
    plasmid.cancel(ref, recursive=False)
    cancelled(ref)
    assert arena().stats()["tasks"] == 1
    gate.open()


def test_a_thousand_children_are_cancelled(gate: Gate) -> None:
    @plasmid.remote
    def parent(gate: Gate) -> None:
        refs = [stay.remote(gate) for _ in range(1000)]
        gate.wait()
        plasmid.get(refs)

    ref = parent.remote(gate)
    gate.await_arrivals(1)
    plasmid.cancel(ref)
    cancelled(ref)
    until(lambda: arena().stats()["tasks"] == 0, "children are left")


# Whom it does not concern -------------------------------------------------------------------------


def test_a_finished_task_and_a_stored_object_are_left_alone() -> None:
    done, stored = identity.remote(7), plasmid.put(8)
    assert plasmid.get(done) == 7
    for force in (False, True):
        plasmid.cancel(done, force=force)
        plasmid.cancel(stored, force=force)
    assert plasmid.get([done, stored]) == [7, 8]


@pytest.mark.parametrize("what", [None, 1, "ref", [], object()])
def test_only_references_are_cancelled(what: Any) -> None:
    with pytest.raises(TypeError, match="cancel: expected an ObjectRef"):
        plasmid.cancel(what)
    with pytest.raises(TypeError, match=r"cancel: expected an ObjectRef, got \["):
        plasmid.cancel([plasmid.put(1)])


def test_a_task_cancels_itself_and_another_ones_task(gate: Gate) -> None:
    @plasmid.remote(num_cpus=0)
    def cancel(refs: list[Any]) -> None:
        plasmid.cancel(refs[0])

    ref = stay.remote(gate)
    gate.await_arrivals(1)
    plasmid.get(cancel.remote([ref]))
    cancelled(ref)


def test_freed_results_and_dropped_references_of_cancelled_tasks(gate: Gate) -> None:
    first = stay.remote(gate)
    gate.await_arrivals(1)
    waiting = identity.remote(first)
    plasmid.free(waiting)
    plasmid.cancel(waiting)
    with pytest.raises(plasmid.exceptions.ObjectFreedError):
        plasmid.get(waiting)
    del waiting
    gate.open()
    plasmid.get(first)


# Races --------------------------------------------------------------------------------------------


@plasmid.remote(max_retries=0)
def brief(seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pass
    return "done"


@pytest.mark.parametrize("recursive", [False, True])
def test_a_thousand_cancels_race_with_the_tasks_ends(recursive: bool) -> None:
    dice = random.Random(1)
    outcomes = {"done": 0, "cancelled": 0}
    for _ in range(50):
        refs = [brief.remote(dice.random() * 0.0004) for _ in range(20)]
        for ref in dice.sample(refs, len(refs)):
            plasmid.cancel(ref, recursive=recursive)
        for ref in refs:
            try:
                outcomes[plasmid.get(ref)] += 1
            except TaskCancelledError:
                outcomes["cancelled"] += 1
    assert sum(outcomes.values()) == 1000
    assert outcomes["cancelled"]
    arena().check()


def test_cancels_of_running_tasks_race_with_their_ends_and_cost_no_worker() -> None:
    dice = random.Random(2)
    outcomes = {"done": 0, "cancelled": 0}
    before = workers()
    for _ in range(300):
        ref = brief.remote(0.0005)
        pause = time.monotonic() + dice.random() * 0.001
        while time.monotonic() < pause:
            pass
        plasmid.cancel(ref)
        try:
            outcomes[plasmid.get(ref)] += 1
        except TaskCancelledError:
            outcomes["cancelled"] += 1
    assert outcomes["done"]
    assert outcomes["cancelled"]
    assert workers() >= before


def test_cancels_by_force_of_tasks_that_end_kill_nobody_else() -> None:
    dice = random.Random(3)
    for _ in range(30):
        ref = brief.remote(0.0005)
        pause = time.monotonic() + dice.random() * 0.001
        while time.monotonic() < pause:
            pass
        plasmid.cancel(ref, force=True)
        others = [brief.remote(0) for _ in range(3)]  # no retries: a kill would show
        with suppress(TaskCancelledError):
            assert plasmid.get(ref) == "done"
        assert plasmid.get(others) == ["done"] * 3


def test_nested_tasks_are_cancelled_while_they_start_and_end() -> None:
    @plasmid.remote
    def outer(n: int) -> int:
        return sum(len(plasmid.get(brief.remote(0.0002))) for _ in range(n))

    dice = random.Random(4)
    for _ in range(60):
        refs = [outer.remote(5) for _ in range(3)]
        pause = time.monotonic() + dice.random() * 0.004
        while time.monotonic() < pause:
            pass
        for ref in refs:
            plasmid.cancel(ref)
        for ref in refs:
            with suppress(TaskCancelledError):
                assert plasmid.get(ref) == 20
    until(lambda: arena().stats()["tasks"] == 0, "tasks are left")
