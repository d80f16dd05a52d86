"""Tasks that call tasks: to any depth, on any number of CPUs, with or without waiting."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from support import STORE, Gate, arena, run_program, until

import plasmid
from plasmid.runtime.limits import most_workers, utmost_workers


@pytest.fixture(scope="module", params=[1, 2], ids=["1cpu", "2cpus"], autouse=True)
def session(request: pytest.FixtureRequest) -> Any:
    """Whatever works with two workers must work with one."""
    plasmid.init(num_cpus=request.param, object_store_memory=STORE)
    yield
    plasmid.shutdown()


@plasmid.remote
def identity(value: Any) -> Any:
    return value


@plasmid.remote
def fib(n: int) -> int:
    if n < 2:
        return n
    return sum(plasmid.get([fib.remote(n - 1), fib.remote(n - 2)]))


@plasmid.remote
def down(depth: int) -> int:
    return depth if depth == 0 else plasmid.get(down.remote(depth - 1)) + 1


@plasmid.remote
def total(values: list[Any]) -> int:
    return sum(plasmid.get(values))


def test_recursion_through_tasks() -> None:
    assert plasmid.get(fib.remote(11)) == 89


@pytest.mark.parametrize("depth", [1, 40, 150])
def test_a_deep_chain_of_tasks_each_waiting_for_the_next(depth: int) -> None:
    assert plasmid.get(down.remote(depth)) == depth


@plasmid.remote
def down_by_get_with_timeout(depth: int) -> int:
    if depth == 0:
        return 0
    return plasmid.get(down_by_get_with_timeout.remote(depth - 1), timeout=50) + 1


@plasmid.remote
def down_by_wait(depth: int, timeout: float | None) -> int:
    """Two tasks a level, each of which waits for the next level."""
    if depth == 0:
        return 0
    left, found = [down_by_wait.remote(depth - 1, timeout), identity.remote(depth - 1)], []
    while left:
        ready, left = plasmid.wait(left, timeout=timeout)
        found += plasmid.get(ready)
    return max(found) + 1


@pytest.fixture
def bounded() -> Iterator[None]:
    """The pool stays within its bound."""
    yield
    assert arena().stats()["workers"] <= most_workers(arena().cpu_total)


@pytest.mark.usefixtures("bounded")
def test_a_chain_deeper_than_there_are_workers_whose_links_wait_with_a_timeout() -> None:
    assert plasmid.get(down_by_get_with_timeout.remote(60), timeout=50) == 60


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("timeout", [0, 0.01, 5, None])
def test_a_deep_chain_of_tasks_that_wait_for_either_of_two(timeout: float | None) -> None:
    assert plasmid.get(down_by_wait.remote(60, timeout), timeout=50) == 60


@pytest.mark.usefixtures("bounded")
def test_a_thousand_tasks_that_each_wait_for_others_with_a_timeout() -> None:
    refs = [down_by_get_with_timeout.remote(3) for _ in range(1000)]
    assert plasmid.get(refs, timeout=50) == [3] * 1000


def test_twenty_tasks_with_ten_tasks_each() -> None:
    @plasmid.remote
    def outer(n: int) -> int:
        return sum(plasmid.get([identity.remote(n * 10 + k) for k in range(10)]))

    assert sum(plasmid.get([outer.remote(n) for n in range(20)])) == sum(range(200))


def test_an_inner_task_that_asks_for_all_cpus_runs_while_the_outer_waits() -> None:
    cpus = int(plasmid.cluster_resources()["CPU"])

    @plasmid.remote(num_cpus=cpus)
    def outer() -> Any:
        return plasmid.get(identity.options(num_cpus=cpus).remote("inner"))

    assert plasmid.get([outer.remote() for _ in range(3)]) == ["inner"] * 3


def test_references_made_in_a_task_are_used_after_its_end() -> None:
    @plasmid.remote
    def start() -> list[Any]:
        return [identity.remote(np.full(1000, n)) for n in range(5)] + [plasmid.put("put")]

    *refs, last = plasmid.get(start.remote())
    assert [int(array[0]) for array in plasmid.get(refs)] == list(range(5))
    assert plasmid.get(last) == "put"


def test_references_pass_through_several_tasks() -> None:
    @plasmid.remote
    def wrap(value: Any) -> Any:
        return [value]

    ref = wrap.remote([plasmid.put(7)])
    for _ in range(5):
        ref = wrap.remote(ref)
    found = plasmid.get(ref)
    for _ in range(6):
        (found,) = found
    assert plasmid.get(found[0]) == 7


def test_a_task_waits_for_tasks_that_its_caller_started() -> None:
    refs = [identity.remote(n) for n in range(10)]
    assert plasmid.get(total.remote(refs)) == 45
    nested = [total.remote(refs[:5]), total.remote(refs[5:])]
    assert plasmid.get(total.remote(nested)) == 45


def test_a_task_may_start_tasks_and_not_wait_for_them(gate) -> None:
    @plasmid.remote(num_cpus=0)
    def note(gate: Gate) -> None:
        gate.wait()

    @plasmid.remote
    def start(gate: Gate) -> str:
        for _ in range(5):
            note.remote(gate)
        return "started"

    assert plasmid.get(start.remote(gate)) == "started"
    gate.open()
    gate.await_arrivals(5)


def test_a_task_waits_for_what_another_running_task_makes(gate) -> None:
    @plasmid.remote(num_cpus=0)
    def make(gate: Gate) -> int:
        gate.wait()
        return 3

    @plasmid.remote(num_cpus=0)
    def use(refs: list[Any]) -> int:
        return plasmid.get(refs[0]) + 1

    ref = make.remote(gate)
    gate.await_arrivals(1)
    users = [use.remote([ref]) for _ in range(3)]
    gate.open()
    assert plasmid.get(users) == [4, 4, 4]


def test_a_waiting_task_has_its_variables_and_name_back_afterwards() -> None:
    @plasmid.remote
    def outer(value: Any) -> list[Any]:
        pid = os.getpid()
        before = plasmid.get(value)
        inner = plasmid.get([identity.remote([n]) for n in range(3)])
        return [os.getpid() == pid, plasmid.get(value) is before, inner]

    assert plasmid.get(outer.remote(plasmid.put({"a": 1}))) == [True, True, [[0], [1], [2]]]


def test_an_inner_error_ends_the_inner_task_only() -> None:
    @plasmid.remote
    def fails() -> None:
        raise ValueError("inner")

    @plasmid.remote
    def outer() -> list[str]:
        found = []
        for ref in [fails.remote(), identity.remote("fine"), fails.remote()]:
            try:
                found.append(plasmid.get(ref))
            except ValueError as error:
                found.append(str(error.cause))
        return found

    assert plasmid.get(outer.remote()) == ["inner", "fine", "inner"]


def test_an_inner_task_that_kills_its_worker_is_retried_and_so_is_what_ran_there(tmp_path) -> None:
    @plasmid.remote
    def dies_once(path: str) -> str:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return "second time"
        os._exit(1)

    @plasmid.remote
    def outer(path: str) -> str:
        return plasmid.get(dies_once.remote(path))

    assert plasmid.get(outer.remote(str(tmp_path / "died"))) == "second time"


def test_get_with_a_timeout_in_a_task_waits_without_taking_the_cpu() -> None:
    @plasmid.remote
    def outer() -> Any:
        return plasmid.get(identity.remote(5), timeout=60)

    assert plasmid.get(outer.remote()) == 5


def test_an_async_task_awaits_tasks_without_a_free_cpu() -> None:
    @plasmid.remote
    async def outer() -> Any:
        return [await identity.remote(n) for n in range(3)]

    assert plasmid.get(outer.remote()) == [0, 1, 2]


def test_an_async_task_that_blocks_in_get_waits_for_another_async_task() -> None:
    @plasmid.remote
    async def inner(n: int) -> int:
        return await identity.remote(n)

    @plasmid.remote
    async def outer() -> list[int]:
        return plasmid.get([inner.remote(n) for n in range(3)])

    assert plasmid.get(outer.remote()) == [0, 1, 2]


def test_the_cpus_are_free_again_when_all_have_waited() -> None:
    plasmid.get([fib.remote(6) for _ in range(4)])
    full = plasmid.cluster_resources()["CPU"]
    until(lambda: plasmid.available_resources().get("CPU") == full)
    until(lambda: arena().stats()["tasks"] == 0)


@plasmid.remote
async def down_by_await(depth: int) -> int:
    return 0 if depth == 0 else await down_by_await.remote(depth - 1) + 1


@plasmid.remote
def down_by_thread(depth: int) -> int:
    if depth == 0:
        return 0
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(plasmid.get, down_by_thread.remote(depth - 1)).result() + 1


@pytest.mark.parametrize("down", [down_by_await, down_by_thread])
def test_more_tasks_than_usual_workers_wait_and_cannot_run_others(down: Any) -> None:
    """No task may run below an event loop or in another thread: processes must come, in bounds."""
    assert plasmid.get(down.remote(40), timeout=50) == 40
    cpus = arena().cpu_total
    assert most_workers(cpus) < arena().stats()["workers"] <= utmost_workers(cpus)


@pytest.mark.slow
def test_the_pool_shrinks_when_there_is_nothing_to_do() -> None:
    plasmid.get(down_by_get_with_timeout.remote(40))
    assert arena().stats()["workers"] > arena().cpu_total
    until(lambda: arena().stats()["workers"] == arena().cpu_total, "as many workers as CPUs")
    assert plasmid.get(fib.remote(8)) == 21


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_that_nothing_can_go_on_any_more_is_told(no_session: None) -> None:
    out, err = run_program(
        """
        import time
        import plasmid
        from plasmid.util.state import list_workers
        plasmid.init(num_cpus=1)

        @plasmid.remote
        async def down(depth):
            return 0 if depth == 0 else await down.remote(depth - 1) + 1

        ref = down.remote(200)
        try:
            plasmid.get(ref, timeout=40)
        except plasmid.exceptions.GetTimeoutError:
            plasmid.cancel(ref)
        try:
            plasmid.get(ref, timeout=40)
        except plasmid.exceptions.TaskCancelledError:
            print("cancelled")

        while len(list_workers()) > 12:
            time.sleep(0.1)
        print(plasmid.get(down.remote(40), timeout=40))
        """
    )
    assert out.endswith("cancelled\n40\n"), "and the pool grows again afterwards"
    assert "nothing goes on by itself" in out + err
