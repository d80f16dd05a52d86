"""wait: which references are ready, in which order, and when it returns."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from support import Gate, until

import plasmid
from plasmid.exceptions import RayTaskError, SessionError

pytestmark = pytest.mark.usefixtures("session")


@plasmid.remote
def identity(value: Any) -> Any:
    return value


@plasmid.remote
def fail(message: str) -> None:
    raise ValueError(message)


@plasmid.remote(num_cpus=0)
def wait_at(gate: Gate, value: Any = None) -> Any:
    gate.wait()
    return value


@pytest.fixture
def gates(tmp_path):
    made = [Gate(tmp_path, f"gate{n}") for n in range(3)]
    yield made
    for gate in made:
        gate.open()


def test_objects_that_were_put_are_ready_at_once() -> None:
    refs = [plasmid.put(n) for n in range(5)]
    assert plasmid.wait(refs) == (refs[:1], refs[1:])
    assert plasmid.wait(refs, num_returns=5, timeout=0) == (refs, [])


def test_nothing_to_wait_for() -> None:
    assert plasmid.wait([]) == ([], [])
    assert plasmid.wait([], num_returns=1, timeout=0) == ([], [])


def test_it_returns_with_the_first_that_is_ready_wherever_it_stands(gates) -> None:
    refs = [wait_at.remote(gate) for gate in gates]
    gates[1].open()
    assert plasmid.wait(refs) == ([refs[1]], [refs[0], refs[2]])
    gates[2].open()
    assert plasmid.wait(refs, num_returns=2) == ([refs[1], refs[2]], [refs[0]])


def test_no_more_are_ready_than_were_asked_for_and_both_lists_keep_the_order() -> None:
    refs = [identity.remote(n) for n in range(10)]
    plasmid.get(refs)
    for number in range(1, 11):
        assert plasmid.wait(refs, num_returns=number) == (refs[:number], refs[number:])


@pytest.mark.parametrize("timeout", [0, 0.02])
def test_when_time_is_up_those_that_are_ready_are_returned(gate, timeout) -> None:
    done, pending = identity.remote(1), wait_at.remote(gate)
    plasmid.get(done)
    assert plasmid.wait([pending], timeout=timeout) == ([], [pending])
    assert plasmid.wait([pending, done], num_returns=2, timeout=timeout) == ([done], [pending])
    gate.open()
    assert plasmid.wait([pending, done], num_returns=2) == ([pending, done], [])


def test_a_failed_task_is_ready_and_its_error_comes_with_get(gate) -> None:
    bad, slow = fail.remote("no"), wait_at.remote(gate)
    assert plasmid.wait([slow, bad]) == ([bad], [slow])
    with pytest.raises(ValueError, match="no"):
        plasmid.get(bad)
    gate.open()
    assert plasmid.wait([slow, bad], num_returns=2) == ([slow, bad], [])


def test_a_task_whose_argument_failed_is_ready_too() -> None:
    chain = identity.remote(identity.remote(fail.remote("first")))
    assert plasmid.wait([chain]) == ([chain], [])
    with pytest.raises(RayTaskError, match="first"):
        plasmid.get(chain)


def test_results_are_merged_as_they_arrive() -> None:
    pending, total = [identity.remote(n) for n in range(200)], 0
    while pending:
        ready, pending = plasmid.wait(pending, num_returns=min(7, len(pending)))
        assert len(ready) in (7, 4)
        total += sum(plasmid.get(ready))
    assert total == sum(range(200))


def test_it_can_be_called_in_a_task(gate) -> None:
    @plasmid.remote
    def first(refs: list[Any]) -> tuple[int, int]:
        ready, others = plasmid.wait(refs, num_returns=2)
        return sum(plasmid.get(ready)), len(others)

    refs = [identity.remote(1), wait_at.remote(gate), identity.remote(2)]
    assert plasmid.get(first.remote(refs)) == (3, 1)


def test_a_task_that_waits_for_its_own_tasks_needs_no_other_worker() -> None:
    @plasmid.remote(num_cpus=2)
    def all_cpus() -> list[int]:
        pending, found = [identity.remote(n) for n in range(4)], []
        while pending:
            (ready,), pending = plasmid.wait(pending)
            found.append(plasmid.get(ready))
        return sorted(found)

    assert plasmid.get(all_cpus.remote()) == [0, 1, 2, 3]


def test_large_results_are_not_read_by_it() -> None:
    ref = identity.remote(np.zeros(100_000))
    assert plasmid.wait([ref], fetch_local=False) == ([ref], [])
    assert plasmid.wait([ref], fetch_local=True) == ([ref], [])


def test_several_threads_wait_for_the_same(gate) -> None:
    ref, found = wait_at.remote(gate, "value"), []

    def look() -> None:
        found.append(plasmid.wait([ref])[0] == [ref] and plasmid.get(ref))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    gate.open()
    for thread in threads:
        thread.join()
    assert found == ["value"] * 8


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"num_returns": 0}, ValueError),
        ({"num_returns": 3}, ValueError),
        ({"num_returns": 1.0}, TypeError),
        ({"timeout": -1}, ValueError),
        ({"timeout": "1"}, TypeError),
    ],
)
def test_wrong_numbers_are_refused(arguments: Any, error: type[Exception]) -> None:
    refs = [plasmid.put(1), plasmid.put(2)]
    with pytest.raises(error, match="wait: "):
        plasmid.wait(refs, **arguments)


def test_what_is_no_list_of_different_references_is_refused() -> None:
    ref = plasmid.put(1)
    with pytest.raises(TypeError, match="list"):
        plasmid.wait(ref)
    with pytest.raises(TypeError, match=r"3 \(int\) is in it"):
        plasmid.wait([ref, 3])
    other = plasmid.put(2)
    for refs in ([ref, ref], [ref, other, ref], [other, ref, ref]):
        with pytest.raises(ValueError, match="more than once"):
            plasmid.wait(refs)
    assert plasmid.wait([ref, other]) == ([ref], [other])  # in one list after the other they may be


def test_only_as_many_as_asked_for_are_in_the_first_list() -> None:
    refs = [plasmid.put(i) for i in range(1000)]
    for most in (1, 2, 999, 1000):
        assert plasmid.wait(refs, num_returns=most) == (refs[:most], refs[most:])


# Futures -----------------------------------------------------------------------------------------


def test_a_future_of_a_ready_object_is_done() -> None:
    future = plasmid.put("x").future()
    assert future.done()
    assert future.result() == "x"


def test_futures_work_with_the_standard_library(gates) -> None:
    import concurrent.futures as cf

    refs = [wait_at.remote(gate, n) for n, gate in enumerate(gates)]
    futures = [ref.future() for ref in refs]
    assert not any(future.done() for future in futures)
    gates[1].open()
    done, pending = cf.wait(futures, return_when=cf.FIRST_COMPLETED)
    assert done == {futures[1]}
    assert len(pending) == 2
    gates[0].open()
    gates[2].open()
    assert sorted(future.result() for future in cf.as_completed(futures)) == [0, 1, 2]


def test_a_future_has_the_tasks_error() -> None:
    ready = fail.remote("no")
    plasmid.wait([ready])
    for ref in (ready, fail.remote("no"), identity.remote(fail.remote("no"))):
        error = ref.future().exception()
        assert isinstance(error, ValueError)
        assert isinstance(error, RayTaskError)


def test_callbacks_run_once_and_may_use_the_session(gate) -> None:
    found: list[Any] = []
    ref = wait_at.remote(gate, 20)
    for _ in range(3):
        ref.future().add_done_callback(
            lambda future: found.append(plasmid.get(identity.remote(future.result() + 1)))
        )
    gate.open()
    until(lambda: len(found) == 3)
    assert found == [21] * 3


def test_many_futures_asked_for_while_others_complete() -> None:
    futures = [identity.remote(n).future() for n in range(500)]
    assert [future.result() for future in futures] == list(range(500))


def test_a_future_may_be_cancelled_while_its_task_goes_on(gate) -> None:
    ref = wait_at.remote(gate, 1)
    future, other = ref.future(), ref.future()
    assert future.cancel() or not future.cancelled()
    gate.open()
    assert other.result() == 1


def test_references_can_be_awaited() -> None:
    import asyncio

    async def main() -> list[Any]:
        async def one(n: int) -> Any:
            return await identity.remote(n)

        found = await asyncio.gather(*(one(n) for n in range(50)))
        with pytest.raises(ValueError, match="no"):
            await fail.remote("no")
        return found

    assert asyncio.run(main()) == list(range(50))


def test_a_future_asked_for_in_a_task_is_completed_there() -> None:
    @plasmid.remote
    def outer() -> int:
        return sum(identity.remote(n).future().result() for n in range(3))

    assert plasmid.get(outer.remote()) == 3


@pytest.mark.usefixtures("no_session")
def test_futures_that_wait_end_with_the_session(tmp_path) -> None:
    gate = Gate(tmp_path)
    plasmid.init(num_cpus=1, object_store_memory=4 << 20)
    future = wait_at.remote(gate).future()
    plasmid.shutdown()
    assert isinstance(future.exception(), SessionError)
    gate.open()
