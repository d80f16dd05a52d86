"""util.ActorPool."""

from __future__ import annotations

import os
from typing import Any

import pytest
from support import Gate

import plasmid
from plasmid.exceptions import ActorDiedError, NoActorLeftError
from plasmid.util import ActorPool

pytestmark = pytest.mark.usefixtures("session")


@plasmid.remote(num_cpus=0)
class Worker:
    def double(self, value: int) -> int:
        if value < 0:
            raise ValueError(value)
        return 2 * value

    def wait(self, gate: Gate, value: int) -> int:
        gate.wait()
        return value

    def die(self, value: int) -> None:
        os._exit(1)

    @plasmid.method(num_returns=2)
    def pair(self, value: int) -> tuple[int, int]:
        return value, -value


def double(actor: Any, value: int) -> Any:
    return actor.double.remote(value)


def pool_of(count: int) -> ActorPool:
    return ActorPool([Worker.remote() for _ in range(count)])


def test_map_gives_results_in_order_and_map_unordered_all() -> None:
    pool = pool_of(2)
    assert list(pool.map(double, range(50))) == list(range(0, 100, 2))
    assert sorted(pool.map_unordered(double, range(50))) == list(range(0, 100, 2))
    assert list(pool.map(double, [])) == []


def test_map_drops_what_nobody_took() -> None:
    pool = pool_of(1)
    for value in range(3):
        pool.submit(double, value)
    assert list(pool.map(double, [10])) == [20]
    assert not pool.has_next()


def test_more_work_than_actors_waits_in_order() -> None:
    pool = pool_of(1)
    for value in range(10):
        pool.submit(double, value)
    assert [pool.get_next() for _ in range(10)] == list(range(0, 20, 2))
    assert not pool.has_next()
    with pytest.raises(StopIteration):
        pool.get_next()
    with pytest.raises(StopIteration):
        pool.get_next_unordered()


def test_an_actor_that_is_done_takes_what_waits_though_nobody_takes_results(gate: Gate) -> None:
    pool = pool_of(2)
    pool.submit(lambda actor, value: actor.wait.remote(gate, value), 0)
    for value in range(1, 6):
        pool.submit(double, value)
    assert sorted(pool.get_next_unordered() for _ in range(5)) == [2, 4, 6, 8, 10]
    gate.open()
    assert pool.get_next_unordered() == 0


def test_what_a_call_raises_costs_no_actor() -> None:
    pool = pool_of(1)
    for value in (-1, 1, -2, 2):
        pool.submit(double, value)
    for expected in (2, 4):
        with pytest.raises(ValueError, match="-"):
            pool.get_next()
        assert pool.get_next() == expected
    assert pool.has_free()


def test_the_first_that_is_there(gate: Gate) -> None:
    pool = pool_of(2)
    pool.submit(lambda actor, value: actor.wait.remote(gate, value), 1)
    pool.submit(double, 2)
    assert pool.get_next_unordered(timeout=60) == 4
    with pytest.raises(TimeoutError):
        pool.get_next_unordered(timeout=0.01)
    assert pool.has_next()
    gate.open()
    assert pool.get_next_unordered() == 1


def test_a_result_that_is_late_may_be_given_up(gate: Gate) -> None:
    pool = pool_of(2)
    pool.submit(lambda actor, value: actor.wait.remote(gate, value), 1)
    pool.submit(double, 2)
    with pytest.raises(TimeoutError):
        pool.get_next(timeout=0.01)
    with pytest.raises(TimeoutError):
        pool.get_next(timeout=0.01, ignore_if_timedout=True)
    assert pool.get_next() == 4
    assert not pool.has_next()
    gate.open()


def test_order_is_lost_once_it_was_not_kept(gate: Gate) -> None:
    pool = pool_of(2)
    pool.submit(lambda actor, value: actor.wait.remote(gate, value), 1)
    pool.submit(double, 2)
    assert pool.get_next_unordered() == 4
    with pytest.raises(ValueError, match="get_next_unordered"):
        pool.get_next()
    gate.open()
    assert pool.get_next_unordered() == 1


def test_several_results_of_a_call() -> None:
    pool = pool_of(2)
    pairs = pool.map(lambda actor, value: actor.pair.remote(value), range(4))
    assert list(pairs) == [[0, 0], [1, -1], [2, -2], [3, -3]]


def test_actors_come_and_go() -> None:
    first, second = Worker.remote(), Worker.remote()
    pool = ActorPool([first])
    assert pool.has_free()
    pool.submit(double, 1)
    pool.push(second)
    with pytest.raises(ValueError, match="belongs"):
        pool.push(second)
    assert pool.get_next() == 2
    assert {pool.pop_idle(), pool.pop_idle()} == {first, second}
    assert pool.pop_idle() is None
    assert not pool.has_free()


def test_a_dead_actor_leaves_the_pool() -> None:
    pool = pool_of(2)
    pool.submit(lambda actor, value: actor.die.remote(value), 0)
    for value in range(1, 5):
        pool.submit(double, value)
    with pytest.raises(ActorDiedError):
        pool.get_next()
    assert [pool.get_next() for _ in range(4)] == [2, 4, 6, 8]
    pool.submit(lambda actor, value: actor.die.remote(value), 0)
    pool.submit(double, 9)
    with pytest.raises(ActorDiedError):
        pool.get_next()
    with pytest.raises(NoActorLeftError, match=r"1 calls wait.*push"):
        pool.get_next()
    pool.push(Worker.remote())
    assert pool.get_next() == 18


def nope(actor: Any, value: int) -> Any:
    return actor.nope.remote(value)


def test_a_call_that_cannot_be_made_costs_no_actor() -> None:
    pool = pool_of(1)
    with pytest.raises(AttributeError):
        pool.submit(nope, 1)
    assert not pool.has_next()
    pool.submit(double, 2)
    assert pool.get_next() == 4
    assert list(pool.map(double, [1])) == [2]


@pytest.mark.parametrize("take", ["get_next", "get_next_unordered"])
def test_one_that_had_to_wait_raises_in_place_of_its_result(take: str) -> None:
    pool = pool_of(1)
    for fn, value in [(double, 1), (nope, 2), (double, 3)]:
        pool.submit(fn, value)
    results = []
    while pool.has_next():
        try:
            results.append(getattr(pool, take)())
        except AttributeError as error:
            results.append("nope" in str(error))
    assert sorted(results) == [True, 2, 6]
    assert pool.has_free()


@pytest.mark.parametrize("returned", [None, 5, [], [1]])
def test_what_is_no_call_is_refused_and_costs_no_actor(returned: Any) -> None:
    pool = pool_of(1)
    with pytest.raises(TypeError, match="what a call of the actor returned"):
        pool.submit(lambda actor, value: returned, 1)
    pool.submit(double, 1)
    assert pool.get_next() == 2
    assert pool.has_free()
