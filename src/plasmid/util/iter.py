"""Iterators over shards, each in an actor, and what is made of them.

    from_items ── from_range ── from_iterators ── from_actors
         └─► ParallelIterator    for_each, filter, batch, ...: run in the shards' actors
                  │ gather_sync, gather_async, batch_across_shards, shards
                  ▼
             LocalIterator       for_each, filter, batch, ...: run where it is iterated over

Nothing is run before somebody iterates. Ray has deprecated it in favour of its datasets.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice, pairwise, repeat
from typing import Any, TypeAlias, TypeVar

from plasmid import api
from plasmid.remote import remote

__all__ = [
    "LocalIterator",
    "ParallelIterator",
    "ParallelIteratorWorker",
    "from_actors",
    "from_items",
    "from_iterators",
    "from_range",
]

_Self = TypeVar("_Self", bound="_Steps")
_A_TURN = 100
"""Items of an iterator whose weight is "*" before others have their turn."""

Transform: TypeAlias = Callable[["LocalIterator"], "LocalIterator"]


def from_items(items: list[Any], num_shards: int = 2, repeat: bool = False) -> ParallelIterator:
    """The items dealt out to so many shards: item i is in shard i % num_shards. repeat: again and
    again, without end. ValueError unless num_shards is positive."""
    _check_positive("from_items", "num_shards", num_shards)
    shards = [items[start::num_shards] for start in range(num_shards)]
    return from_iterators(shards, repeat, f"from_items[{len(items)}, {num_shards}]")


def from_range(n: int, num_shards: int = 2, repeat: bool = False) -> ParallelIterator:
    """0 to n - 1, each shard with a range of them. ValueError unless num_shards is positive."""
    _check_positive("from_range", "num_shards", num_shards)
    bounds = [n * shard // num_shards for shard in range(num_shards + 1)]
    ranges = [range(*each) for each in pairwise(bounds)]
    return from_iterators(ranges, repeat, f"from_range[{n}, {num_shards}]")


def from_iterators(
    generators: Iterable[Iterable[Any] | Callable[[], Iterable[Any]]],
    repeat: bool = False,
    name: str | None = None,
) -> ParallelIterator:
    """A shard for each: something to iterate over, or a function that gives it, which can be an
    iterator that cannot be pickled."""
    worker = remote(num_cpus=0)(ParallelIteratorWorker)
    actors = [worker.remote(each, repeat) for each in generators]
    return from_actors(actors, name or f"from_iterators[{len(actors)}]")


def from_actors(actors: Iterable[Any], name: str | None = None) -> ParallelIterator:
    """A shard for each actor, of a class derived from ParallelIteratorWorker."""
    shards: list[tuple[Any, tuple[Transform, ...]]] = [(actor, ()) for actor in actors]
    return ParallelIterator(shards, name or f"from_actors[{len(shards)}]")


class _Steps:
    """What both kinds of iterators can do to their items, in terms of `_then`."""

    name: str

    def _then(self: _Self, step: Transform, name: str) -> _Self:
        raise NotImplementedError

    def transform(self: _Self, fn: Callable[[Iterable[Any]], Iterable[Any]]) -> _Self:
        """`fn` makes an iterable of all items of an iterator, of each shard's."""
        return self._then(lambda items: items._made(lambda: fn(items)), "transform()")

    def for_each(
        self: _Self,
        fn: Callable[[Any], Any],
        max_concurrency: int = 1,
        resources: dict[str, Any] | None = None,
    ) -> _Self:
        """`fn(item)` of each. With max_concurrency > 1 as so many tasks at a time, 0: all at once,
        in the order in which they end; `resources` are options of the tasks."""
        if max_concurrency < 0:
            raise ValueError(f"for_each: max_concurrency is negative: {max_concurrency}")
        if max_concurrency == 1:
            return self._then(lambda items: items._made(lambda: map(fn, items)), "for_each()")
        task = remote(fn).options(**resources) if resources else remote(fn)

        def run(items: LocalIterator) -> LocalIterator:
            return items._made(lambda: _as_tasks(task, items, max_concurrency))

        return self._then(run, "for_each()")

    def filter(self: _Self, fn: Callable[[Any], bool]) -> _Self:
        """Those of which `fn(item)` is true."""
        return self._then(lambda items: items._made(lambda: filter(fn, items)), "filter()")

    def batch(self: _Self, n: int) -> _Self:
        """Lists of n items; the last may be shorter. ValueError unless n is positive."""
        _check_positive("batch", "n", n)
        return self._then(lambda items: items._made(lambda: _batches(items, n)), f"batch({n})")

    def flatten(self: _Self) -> _Self:
        """The items of the items."""
        return self._then(
            lambda items: items._made(lambda: chain.from_iterable(items)), "flatten()"
        )

    def combine(self: _Self, fn: Callable[[Any], list[Any]]) -> _Self:
        """`for_each(fn).flatten()`"""
        return self.for_each(fn).flatten()

    def _shuffled(self: _Self, size: int, seed: int | None, name: str) -> _Self:
        return self._then(lambda items: items._made(lambda: _shuffle(items, size, seed)), name)


class ParallelIterator(_Steps):
    """Items in shards, each iterated over in its actor.

    Two that share actors share their place in them, too: iterate over one at a time.

    Processes and threads: it can be passed to tasks and actors.
    """

    def __init__(self, shards: list[tuple[Any, tuple[Transform, ...]]], name: str) -> None:
        self._shards = shards
        self.name = name

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(
            "a ParallelIterator is not iterated over directly: use gather_sync(), gather_async() "
            "or shards()"
        )

    def __repr__(self) -> str:
        return f"ParallelIterator[{self.name}]"

    def _then(self, step: Transform, name: str) -> ParallelIterator:
        shards = [(actor, (*steps, step)) for actor, steps in self._shards]
        return ParallelIterator(shards, f"{self.name}.{name}")

    def local_shuffle(self, shuffle_buffer_size: int, seed: int | None = None) -> ParallelIterator:
        """The items of each shard out of order: the next is any of so many that were read."""
        return self._shuffled(shuffle_buffer_size, seed, f"local_shuffle({shuffle_buffer_size})")

    def repartition(self, num_partitions: int, batch_ms: int = 0) -> ParallelIterator:
        """The same items in so many new shards, which take turns at those of each old one."""
        shards = self._begun()

        def partition(start: int) -> Callable[[], Iterator[Any]]:
            def calls(shard: _Shard) -> Any:
                return shard.actor.par_iter_slice_batch.remote(num_partitions, start, batch_ms)

            return lambda: _unordered(shards, calls, 1)

        parts = [partition(start) for start in range(num_partitions)]
        return from_iterators(parts, name=f"{self.name}.repartition[{num_partitions}]")

    def gather_sync(self) -> LocalIterator:
        """The next item of each shard in turn."""
        return LocalIterator(lambda: _in_turn(self._begun()), f"{self.name}.gather_sync()")

    def batch_across_shards(self) -> LocalIterator:
        """Lists of the next item of each shard."""
        name = f"{self.name}.batch_across_shards()"
        return LocalIterator(lambda: _rounds(self._begun()), name)

    def gather_async(self, batch_ms: int = 0, num_async: int = 1) -> LocalIterator:
        """The items as they come, from each shard `num_async` calls ahead, each for the items of
        `batch_ms` milliseconds, at least one."""
        if num_async < 1:
            raise ValueError(f"gather_async: num_async must be positive, not {num_async}")
        if batch_ms < 0:
            raise ValueError(f"gather_async: batch_ms must not be negative: {batch_ms}")

        def calls(shard: _Shard) -> Any:
            return shard.actor.par_iter_next_batch.remote(batch_ms)

        name = f"{self.name}.gather_async()"
        return LocalIterator(lambda: _unordered(self._begun(), calls, num_async), name)

    def union(self, other: ParallelIterator) -> ParallelIterator:
        """The shards of both."""
        if not isinstance(other, ParallelIterator):
            raise TypeError(f"union: other must be a ParallelIterator, not {other!r}")
        return ParallelIterator(self._shards + other._shards, f"ParallelUnion[{self}, {other}]")

    def select_shards(self, shards_to_keep: list[int]) -> ParallelIterator:
        """Only these shards: ValueError for none, and for others than there are."""
        if not shards_to_keep or not set(shards_to_keep) <= set(range(len(self._shards))):
            raise ValueError(f"select_shards: there are {len(self._shards)}, not {shards_to_keep}")
        kept = [self._shards[i] for i in shards_to_keep]
        return ParallelIterator(kept, f"{self.name}.select_shards({len(kept)} total)")

    def num_shards(self) -> int:
        return len(self._shards)

    def shards(self) -> list[LocalIterator]:
        """An iterator for each shard, to be iterated over anywhere."""
        return [self.get_shard(i) for i in range(self.num_shards())]

    def get_shard(self, shard_index: int, batch_ms: int = 0, num_async: int = 1) -> LocalIterator:
        """An iterator over one shard, in its order. ValueError if there is no such shard."""
        if not 0 <= shard_index < len(self._shards):
            raise ValueError(f"get_shard: there are {len(self._shards)}, no shard {shard_index}")
        one = self.select_shards([shard_index]).gather_async(batch_ms, num_async)
        return LocalIterator(one._make, f"{self.name}.shard[{shard_index}]", one._source)

    def take(self, n: int) -> list[Any]:
        """The first n items of gather_sync()."""
        return self.gather_sync().take(n)

    def show(self, n: int = 20) -> None:
        """Print them."""
        self.gather_sync().show(n)

    def _begun(self) -> list[_Shard]:
        """The shards, from their first item on."""
        made = [_Shard(actor) for actor, _ in self._shards]
        api.get([actor.par_iter_init.remote(list(steps)) for actor, steps in self._shards])
        return made


class LocalIterator(_Steps):
    """Items that are made where it is iterated over.

    make    gives an iterable of them; items of shards as pairs with their actors
    source  the actor that the latest item came from, in a list

    Processes and threads: it can be passed on before it has been begun.
    """

    def __init__(
        self, make: Callable[[], Iterable[Any]], name: str, source: list[Any] | None = None
    ) -> None:
        self._make = make
        self.name = name
        self._source: list[Any] = [None] if source is None else source
        self._items: Iterator[Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        if self._items is None:
            self._items = _unwrapped(self._make(), self._source)
        return self._items

    def __next__(self) -> Any:
        return next(iter(self))

    def __repr__(self) -> str:
        return f"LocalIterator[{self.name}]"

    def _made(self, make: Callable[[], Iterable[Any]]) -> LocalIterator:
        return LocalIterator(make, self.name, self._source)

    def _then(self, step: Transform, name: str) -> LocalIterator:
        made = step(self)
        made.name = f"{self.name}.{name}"
        return made

    def shuffle(self, shuffle_buffer_size: int, seed: int | None = None) -> LocalIterator:
        """Out of order: the next is any of so many that were read."""
        return self._shuffled(shuffle_buffer_size, seed, f"shuffle({shuffle_buffer_size})")

    def zip_with_source_actor(self) -> LocalIterator:
        """(actor, item): which actor it came from."""

        def pairs(items: LocalIterator) -> LocalIterator:
            return items._made(lambda: ((items._source[0], item) for item in items))

        return self._then(pairs, "zip_with_source_actor()")

    def take(self, n: int) -> list[Any]:
        """The next n items, or as many as there are."""
        return list(islice(self, n))

    def show(self, n: int = 20) -> None:
        """Print them."""
        for item in self.take(n):
            print(item)

    def duplicate(self, n: int) -> list[LocalIterator]:
        """n iterators over all items: what one has read and another has not is kept."""
        if n < 2:
            raise ValueError(f"duplicate: n must be at least 2, not {n}")
        waiting: list[deque[Any]] = [deque() for _ in range(n)]

        def copy(mine: deque[Any]) -> Iterator[Any]:
            while True:
                while not mine:
                    try:
                        item = next(self)
                    except StopIteration:
                        return
                    for each in waiting:
                        each.append(item)
                yield mine.popleft()

        names = (f"{self.name}.duplicate[{i}]" for i in range(n))
        pairs = zip(waiting, names, strict=True)
        return [LocalIterator(lambda mine=mine: copy(mine), name) for mine, name in pairs]  # type: ignore[misc]

    def union(
        self,
        *others: LocalIterator,
        deterministic: bool = False,
        round_robin_weights: list[float] | None = None,
    ) -> LocalIterator:
        """The items of all, in turn: of each as many in a row as its weight says, "*" for 100; one
        of weight 0.5 has every second turn. `deterministic` has no effect: it always is, and waits
        for the one whose turn it is. ValueError for weights that are not positive."""
        for other in others:
            if not isinstance(other, LocalIterator):
                raise TypeError(f"union: other must be a LocalIterator, not {other!r}")
        parts = [self, *others]
        weights: list[Any] = (
            [1] * len(parts) if round_robin_weights is None else round_robin_weights
        )
        if len(weights) != len(parts):
            raise ValueError(f"union: {len(parts)} iterators and {len(weights)} weights")
        if not all(weight == "*" or weight > 0 for weight in weights):
            raise ValueError(f"union: weights must be positive, not {weights}")
        name = f"LocalUnion[{', '.join(map(repr, parts))}]"
        return LocalIterator(lambda: _by_weight(parts, weights), name)


class ParallelIteratorWorker:
    """What the actor of a shard is derived from.

    item_generator  its items: something to iterate over, or a function that gives it
    repeat          again and again
    """

    def __init__(self, item_generator: Any, repeat: bool) -> None:
        self._given = item_generator
        self._repeat = repeat
        self._items: Iterator[Any] = iter(())
        self._slices: dict[int, deque[Any]] = {}

    def par_iter_init(self, transforms: list[Transform]) -> None:
        """Begin, or begin anew: `transforms` of all items."""
        items = LocalIterator(self._all, "items")
        for transform in transforms:
            items = transform(items)
        self._items = iter(items)
        self._slices = {}

    def par_iter_next_batch(self, batch_ms: int) -> list[Any]:
        """The items of so many milliseconds, at least one; none at the end."""
        return _for_a_while(self._items, batch_ms)

    def par_iter_slice_batch(self, step: int, start: int, batch_ms: int) -> list[Any]:
        """The same of items start, start + step, ..."""
        return _for_a_while(self._slice(step, start), batch_ms)

    def _slice(self, step: int, start: int) -> Iterator[Any]:
        if not self._slices:
            self._slices = {other: deque() for other in range(step)}
            self._turns = chain.from_iterable(repeat(range(step)))
        mine = self._slices[start]
        while True:
            while not mine:
                try:
                    item = next(self._items)
                except StopIteration:
                    return
                self._slices[next(self._turns)].append(item)
            yield mine.popleft()

    def _all(self) -> Iterator[Any]:
        while True:
            empty = True
            for item in self._given() if callable(self._given) else self._given:
                empty = False
                yield item
            if not self._repeat or empty:
                return


class _From:
    """An item, and the actor that it came from."""

    __slots__ = ("actor", "item")

    def __init__(self, actor: Any, item: Any) -> None:
        self.actor = actor
        self.item = item


class _Shard:
    """An actor that has begun."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self._coming: Any = None

    def ask(self) -> None:
        """Have the next item made, if it is not on its way."""
        if self._coming is None:
            self._coming = self.actor.par_iter_next_batch.remote(0)

    def take(self) -> list[Any]:
        """The next item, asked for already; an empty list at the end."""
        coming, self._coming = self._coming, None
        return [_From(self.actor, item) for item in api.get(coming)]


def _rounds_of(shards: list[_Shard]) -> Iterator[list[Any]]:
    """The next item of each, as long as one has any."""
    for shard in shards:
        shard.ask()
    while shards:
        found = []
        for shard in list(shards):
            item = shard.take()
            if item:
                shard.ask()
                found += item
            else:
                shards.remove(shard)
        if found:
            yield found


def _in_turn(shards: list[_Shard]) -> Iterator[Any]:
    return chain.from_iterable(_rounds_of(shards))


def _rounds(shards: list[_Shard]) -> Iterator[list[Any]]:
    return ([each.item for each in found] for found in _rounds_of(shards))


def _unordered(shards: list[_Shard], calls: Callable[[_Shard], Any], ahead: int) -> Iterator[Any]:
    """Items as they come, of one shard in order: so many calls ahead of what was taken."""
    calling = deque((calls(shard), shard) for _ in range(ahead) for shard in shards)
    while calling:
        first = {shard: ref for ref, shard in reversed(calling)}
        ready, _ = api.wait(list(first.values()))
        for ref in ready:
            at = next(i for i, (each, _) in enumerate(calling) if each == ref)
            _, shard = calling[at]
            del calling[at]
            items = api.get(ref)
            if items:
                calling.append((calls(shard), shard))
            yield from (_From(shard.actor, item) for item in items)


def _unwrapped(items: Iterable[Any], source: list[Any]) -> Iterator[Any]:
    for item in items:
        if type(item) is _From:
            source[0] = item.actor
            yield item.item
        else:
            yield item


def _as_tasks(task: Any, items: Iterable[Any], most: int) -> Iterator[Any]:
    running: list[Any] = []
    for item in items:
        if most and len(running) == most:
            ready, running = api.wait(running)
            yield from map(api.get, ready)
        running.append(task.remote(item))
    while running:
        ready, running = api.wait(running)
        yield from map(api.get, ready)


def _batches(items: Iterable[Any], n: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while found := list(islice(rest, n)):
        yield found


def _shuffle(items: Iterable[Any], size: int, seed: int | None) -> Iterator[Any]:
    chosen = random.Random(seed)
    read: list[Any] = []
    for item in items:
        read.append(item)
        if len(read) >= size:
            yield read.pop(chosen.randrange(len(read)))
    while read:
        yield read.pop(chosen.randrange(len(read)))


def _for_a_while(items: Iterator[Any], ms: int) -> list[Any]:
    found = list(islice(items, 1))
    deadline = time.monotonic() + ms / 1000
    while ms and found and time.monotonic() < deadline:
        more = list(islice(items, 1))
        if not more:
            break
        found += more
    return found


def _by_weight(parts: list[LocalIterator], weights: list[Any]) -> Iterator[Any]:
    turns = [iter(part) for part in parts]
    rates = [_A_TURN if weight == "*" else weight for weight in weights]
    due = [0.0] * len(parts)  # items of each that its turns so far allow
    left = list(range(len(parts)))
    while left:
        for i in list(left):
            due[i] += rates[i]
            while due[i] >= 1:
                due[i] -= 1
                try:
                    yield next(turns[i])
                except StopIteration:
                    left.remove(i)
                    break


def _check_positive(operation: str, name: str, number: int) -> None:
    if number < 1:
        raise ValueError(f"{operation}: {name} must be positive, not {number}")
