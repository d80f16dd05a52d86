"""Numbers: many tasks, long chains, wide fans, many references; nothing is left of them."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from support import STORE, arena, until

import plasmid

pytestmark = pytest.mark.usefixtures("session")


@plasmid.remote
def nothing() -> None:
    pass


@plasmid.remote
def add(a: int, b: int = 1) -> int:
    return a + b


@plasmid.remote
def total(*values: int) -> int:
    return sum(values)


@plasmid.remote
def piece(array: np.ndarray, n: int) -> int:
    return int(array[n])


def used() -> int:
    gc.collect()
    return arena().stats()["heap_used"]


def test_ten_thousand_tasks_that_do_nothing() -> None:
    assert plasmid.get([nothing.remote() for _ in range(10_000)]) == [None] * 10_000


def test_ten_thousand_tasks_that_nobody_waits_for() -> None:
    for _ in range(10_000):
        nothing.remote()
    assert plasmid.get(add.remote(1)) == 2


def test_a_chain_of_a_thousand_tasks() -> None:
    ref = plasmid.put(0)
    for _ in range(1000):
        ref = add.remote(ref)
    assert plasmid.get(ref) == 1000


def test_a_chain_whose_links_are_large() -> None:
    @plasmid.remote
    def step(array: np.ndarray) -> np.ndarray:
        return array + 1

    ref = plasmid.put(np.zeros(STORE // 8 // 8))
    for _ in range(20):
        ref = step.remote(ref)
    assert plasmid.get(ref)[0] == 20


def test_a_hundred_references_meet_in_one_task() -> None:
    assert plasmid.get(total.remote(*(add.remote(n, 0) for n in range(100)))) == sum(range(100))


def test_one_reference_goes_to_a_thousand_tasks() -> None:
    array = plasmid.put(np.arange(100_000))
    assert plasmid.get([piece.remote(array, n) for n in range(1000)]) == list(range(1000))


def test_a_tree_of_tasks() -> None:
    level = [add.remote(n, 0) for n in range(512)]
    while len(level) > 1:
        level = [add.remote(a, b) for a, b in zip(level[::2], level[1::2], strict=True)]
    assert plasmid.get(level[0]) == sum(range(512))


def test_ten_thousand_references_in_one_argument() -> None:
    @plasmid.remote
    def last(refs: list[Any]) -> Any:
        return len(refs), plasmid.get(refs[-1])

    refs = [plasmid.put(n) for n in range(10_000)]
    assert plasmid.get(last.remote(refs)) == (10_000, 9_999)


def test_three_hundred_results_of_each_of_ten_tasks() -> None:
    @plasmid.remote(num_returns=300)
    def many(n: int) -> list[int]:
        return [n * 1000 + k for k in range(300)]

    found = plasmid.get([ref for n in range(10) for ref in many.remote(n)])
    assert found == [n * 1000 + k for n in range(10) for k in range(300)]


def test_more_bytes_than_the_store_has_flow_through_it() -> None:
    @plasmid.remote
    def make(n: int) -> np.ndarray:
        return np.full(STORE // 64 // 8, n)

    for n in range(0, 200, 10):
        arrays = plasmid.get([make.remote(n + k) for k in range(10)])
        assert [int(array[-1]) for array in arrays] == list(range(n, n + 10))


def test_functions_made_in_a_loop_are_not_kept() -> None:
    before = used()
    for n in range(200):
        table = np.full(STORE // 100 // 8, n)  # 200 of them are twice the store

        @plasmid.remote
        def look() -> int:
            return int(table[0])  # noqa: B023, F821

        assert plasmid.get(look.remote()) == n
    del look, table
    until(lambda: used() <= before + 10_000)


def test_waiting_for_the_next_of_many_does_not_slow_down_with_their_number() -> None:
    pending, seen = [add.remote(n) for n in range(2000)], 0
    while pending:
        ready, pending = plasmid.wait(pending, num_returns=min(50, len(pending)))
        seen += len(ready)
    assert seen == 2000
