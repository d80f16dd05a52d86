"""util.iter: iterators over shards in actors."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support import until

import plasmid
from plasmid.exceptions import ActorDiedError
from plasmid.util import iter as sharded
from plasmid.util.iter import LocalIterator, ParallelIterator, ParallelIteratorWorker
from plasmid.util.state import list_actors

pytestmark = pytest.mark.usefixtures("session")


def of(*shards: list[Any]) -> ParallelIterator:
    return sharded.from_iterators(shards)


# Where items come from ----------------------------------------------------------------------------


def test_items_are_dealt_out_and_a_range_is_cut() -> None:
    items = sharded.from_items(["a", "b", "c", "d", "e"])
    assert items.num_shards() == 2
    assert [list(shard) for shard in items.shards()] == [["a", "c", "e"], ["b", "d"]]
    numbers = sharded.from_range(10, num_shards=3)
    assert [list(shard) for shard in numbers.shards()] == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]
    assert list(sharded.from_range(0).gather_sync()) == []


def test_functions_that_give_iterators() -> None:
    def numbers() -> Iterator[int]:
        yield from range(3)

    it = sharded.from_iterators([numbers, lambda: range(10, 12)])
    assert list(it.gather_sync()) == [0, 10, 1, 11, 2]


def test_again_and_again() -> None:
    assert sharded.from_items([1, 2, 3], num_shards=1, repeat=True).take(8) == [1, 2, 3] * 2 + [
        1,
        2,
    ]
    assert list(sharded.from_iterators([[]], repeat=True).gather_sync()) == []


def test_actors_of_a_class_of_ones_own() -> None:
    @plasmid.remote(num_cpus=0)
    class Numbers(ParallelIteratorWorker):
        def __init__(self, first: int) -> None:
            super().__init__(range(first, first + 3), repeat=False)

    it = sharded.from_actors([Numbers.remote(0), Numbers.remote(10)])
    assert list(it.for_each(lambda x: -x).gather_sync()) == [0, -10, -1, -11, -2, -12]


# What is done to them -----------------------------------------------------------------------------


def test_steps_in_the_shards() -> None:
    it = of([1, 2, 3, 4], [5, 6, 7])
    assert list(it.for_each(lambda x: 2 * x).gather_sync()) == [2, 10, 4, 12, 6, 14, 8]
    assert list(it.filter(lambda x: x % 2).gather_sync()) == [1, 5, 3, 7]
    assert list(it.batch(3).gather_sync()) == [[1, 2, 3], [5, 6, 7], [4]]
    assert list(it.batch(2).flatten().gather_sync()) == [1, 5, 2, 6, 3, 7, 4]
    assert list(it.combine(lambda x: [x, x]).get_shard(1)) == [5, 5, 6, 6, 7, 7]
    assert list(it.transform(lambda items: reversed(list(items))).get_shard(0)) == [4, 3, 2, 1]
    pids = set(it.for_each(lambda _: os.getpid()).gather_sync())
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_steps_where_it_is_iterated_over() -> None:
    def local() -> LocalIterator:
        return of([1, 2], [3, 4]).gather_sync()

    assert list(local().for_each(lambda x: (x, os.getpid()))) == [
        (x, os.getpid()) for x in (1, 3, 2, 4)
    ]
    assert list(local().filter(lambda x: x > 2).batch(2)) == [[3, 4]]
    assert list(local().batch(3).flatten().combine(lambda x: [x] * 2)) == [1, 1, 3, 3, 2, 2, 4, 4]
    assert list(local().transform(sorted)) == [1, 2, 3, 4]
    assert local().take(3) == [1, 3, 2]


def test_the_same_iterator_goes_on_where_it_was() -> None:
    it = sharded.from_range(6, 1).gather_sync()
    assert it.take(2) == [0, 1]
    assert next(it) == 2
    assert list(it) == [3, 4, 5]
    assert list(it) == []


def test_for_each_with_tasks() -> None:
    def slow(x: int) -> tuple[int, int]:
        time.sleep(0.05)
        return x, os.getpid()

    for it in (
        sharded.from_range(8, 1).gather_sync().for_each(slow, max_concurrency=2),
        sharded.from_range(8, 1)
        .for_each(slow, max_concurrency=2, resources={"num_cpus": 0.5})
        .gather_sync(),
    ):
        found = list(it)
        assert sorted(x for x, _ in found) == list(range(8))
        assert len({pid for _, pid in found}) >= 2
    all_at_once = sharded.from_range(8, 1).gather_sync().for_each(lambda x: x, max_concurrency=0)
    assert sorted(all_at_once) == list(range(8))
    with pytest.raises(ValueError, match="max_concurrency"):
        sharded.from_range(1).for_each(slow, max_concurrency=-1)


def test_shuffles_lose_nothing_and_repeat_with_their_seed() -> None:
    it = sharded.from_range(100, 2)
    first = list(it.local_shuffle(10, seed=3).gather_sync())
    assert sorted(first) == list(range(100))
    assert first != list(it.gather_sync())
    assert first == list(it.local_shuffle(10, seed=3).gather_sync())
    local = list(it.gather_sync().shuffle(10, seed=3))
    assert sorted(local) == list(range(100))


def test_batches_across_shards() -> None:
    it = of([1, 2, 3], [4, 5], [6])
    assert list(it.batch_across_shards()) == [[1, 4, 6], [2, 5], [3]]


@pytest.mark.parametrize(("batch_ms", "num_async"), [(0, 1), (0, 3), (5, 1), (5, 2)])
def test_items_as_they_come(batch_ms: int, num_async: int) -> None:
    it = sharded.from_range(300, 3).gather_async(batch_ms, num_async)
    found = list(it)
    assert sorted(found) == list(range(300))
    for first in (0, 100, 200):
        of_one = [x for x in found if first <= x < first + 100]
        assert of_one == sorted(of_one)


def test_a_slow_shard_holds_up_none() -> None:
    def slow() -> Iterator[str]:
        time.sleep(0.5)
        yield "slow"

    it = sharded.from_iterators([slow, ["quick"] * 5])
    assert list(it.gather_async()) == ["quick"] * 5 + ["slow"]


def test_other_shards() -> None:
    it = sharded.from_range(20, 2).repartition(3)
    assert it.num_shards() == 3
    parts = [list(part) for part in it.shards()]
    assert sorted(x for part in parts for x in part) == list(range(20))
    assert all(len(part) in (6, 7, 8) for part in parts)
    ones = list(sharded.from_range(20, 2).repartition(1, batch_ms=5).gather_sync())
    assert sorted(ones) == list(range(20))


def test_unions_and_choices() -> None:
    union = of([1, 2]).for_each(lambda x: 10 * x).union(of([3], [4]))
    assert union.num_shards() == 3
    assert list(union.gather_sync()) == [10, 3, 4, 20]
    assert list(union.select_shards([0, 2]).gather_sync()) == [10, 4, 20]
    a, b = of([1, 2, 3]).gather_sync(), of([4, 5, 6]).gather_sync()
    assert list(a.union(b)) == [1, 4, 2, 5, 3, 6]
    a, b = of([1, 2, 3]).gather_sync(), of([4, 5, 6]).gather_sync()
    assert list(a.union(b, round_robin_weights=[2, "*"])) == [1, 2, 4, 5, 6, 3]  # type: ignore[list-item]


def test_weights_of_less_than_one_and_without_end() -> None:
    a, b = of([1, 2, 3, 4]).gather_sync(), of([5, 6, 7, 8]).gather_sync()
    assert list(a.union(b, round_robin_weights=[1, 0.5])) == [1, 2, 5, 3, 4, 6, 7, 8]
    a, b = sharded.from_range(2, 1, repeat=True).gather_sync(), of([5]).gather_sync()
    weights: Any = ["*", 1]
    assert 5 in a.union(b, round_robin_weights=weights).take(200)


def test_copies_read_on_their_own() -> None:
    first, second = sharded.from_range(5, 1).gather_sync().duplicate(2)
    assert first.take(3) == [0, 1, 2]
    assert list(second) == [0, 1, 2, 3, 4]
    assert list(first) == [3, 4]


def test_where_an_item_came_from() -> None:
    it = of([1, 2], [3, 4])
    pairs = list(it.gather_sync().zip_with_source_actor())
    assert [item for _, item in pairs] == [1, 3, 2, 4]
    actors = [actor for actor, _ in pairs]
    assert actors[0] == actors[2] != actors[1] == actors[3]


def test_shards_are_iterated_over_elsewhere() -> None:
    @plasmid.remote
    def total(shard: LocalIterator) -> int:
        return sum(shard)

    it = sharded.from_range(100, 2).for_each(lambda x: x + 1)
    assert plasmid.get([total.remote(shard) for shard in it.shards()]) == [1275, 3775]


def test_names_and_printing(capsys: pytest.CaptureFixture[str]) -> None:
    it = sharded.from_range(4).for_each(abs).batch(2)
    assert repr(it) == "ParallelIterator[from_range[4, 2].for_each().batch(2)]"
    assert repr(it.gather_sync().flatten()).endswith(".gather_sync().flatten()]")
    it.flatten().show(3)
    assert capsys.readouterr().out == "0\n2\n1\n"


# Bad input and bad luck ---------------------------------------------------------------------------


def test_what_cannot_be_is_refused() -> None:
    it = sharded.from_range(4)
    with pytest.raises(TypeError, match="gather_sync"):
        iter(it)
    for bad, kind in (
        (lambda: it.select_shards([5]), ValueError),
        (lambda: it.select_shards([-1]), ValueError),
        (lambda: it.select_shards([]), ValueError),
        (lambda: sharded.from_items([1], 0), ValueError),
        (lambda: sharded.from_range(1, 0), ValueError),
        (lambda: it.batch(0), ValueError),
        (lambda: it.gather_sync().union(it.gather_sync(), round_robin_weights=[1, 0]), ValueError),
        (lambda: it.get_shard(2), ValueError),
        (lambda: it.get_shard(-1), ValueError),
        (lambda: it.gather_async(num_async=0), ValueError),
        (lambda: it.gather_async(batch_ms=-1), ValueError),
        (lambda: it.union([1]), TypeError),  # type: ignore[arg-type]
        (lambda: it.gather_sync().union([1]), TypeError),  # type: ignore[arg-type]
        (lambda: it.gather_sync().duplicate(1), ValueError),
    ):
        with pytest.raises(kind):
            bad()


def test_an_error_in_a_shard_is_raised_where_it_is_iterated_over() -> None:
    it = of([1, 0]).for_each(lambda x: 1 / x).gather_sync()
    assert next(it) == 1
    with pytest.raises(ZeroDivisionError):
        next(it)


def test_the_death_of_a_shard_is_told() -> None:
    it = sharded.from_range(10, 1).gather_sync()
    assert next(it) == 0
    [actor] = list_actors()
    os.kill(actor.pid, signal.SIGKILL)
    with pytest.raises(ActorDiedError):
        list(it)


def test_nothing_is_left_when_nobody_has_it() -> None:
    it = sharded.from_range(10, 2).gather_sync()
    assert next(it) == 0
    del it
    until(lambda: list_actors() == [], "shards live")
