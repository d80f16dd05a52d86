"""Graphs of tasks, with 2 workers: dependent, nested, many on one array, streams, and real work.

plasmid, ray  a chain of 10,000 tasks each of which takes the result of the one before, submitted
              and then got; a tree of 1,000 tasks that start two each; 20 tasks that start 10 each
              and wait for them; 1,000 results taken one by one by wait(): seconds of each
              100 tasks that take one 100 MB array: microseconds more than without, each
              a generator task of 10,000 small items, taken as they come: items a second
              1,000 tasks of 10 ms of Python each: the share of what 2 CPUs can do at most
"""

from __future__ import annotations

import time
from typing import Any

from common import emit, main, peers, session, timings

WORKERS = 2
CHAIN, TREE, DRAIN, ITEMS, PIECES = 10_000, 1_000, 1_000, 10_000, 1_000
PIECE_SECONDS = 0.010


def graphs(name: str) -> None:
    few = name != "plasmid"  # rounds: of some only one, where each takes a long time
    with session(name, num_cpus=WORKERS) as library:
        dependent(library, few)
        shared(library, few)
        streamed(library, few)
        worked(library)


def dependent(library: Any, few: bool) -> None:
    @library.remote
    def add(x: int) -> int:
        return x + 1

    @library.remote
    def grow(size: int) -> int:
        if size <= 1:
            return size
        left = (size - 1) // 2
        return 1 + sum(library.get([grow.remote(left), grow.remote(size - 1 - left)]))

    @library.remote
    def outer() -> int:
        return sum(library.get([add.remote(i) for i in range(10)]))

    def chain() -> None:
        ref = add.remote(0)
        for _ in range(CHAIN - 1):
            ref = add.remote(ref)
        assert library.get(ref) == CHAIN

    def tree() -> None:
        assert library.get(grow.remote(TREE)) == TREE

    def nested() -> None:
        assert sum(library.get([outer.remote() for _ in range(20)])) == 20 * 55

    def drain() -> None:
        refs = [add.remote(i) for i in range(DRAIN)]
        while refs:
            _, refs = library.wait(refs)

    for run, rounds in ((chain, 5), (tree, 5), (nested, 9), (drain, 9)):
        emit(run.__name__, timings(run, 1 if few else rounds), "s")


def shared(library: Any, few: bool) -> None:
    import numpy as np

    array = library.put(np.zeros(100_000_000 // 8))
    first = library.remote(lambda values: float(values[0]))  # of no type that takes time itself
    library.get([first.remote(array) for _ in range(10)])
    small = library.put([0.0])

    def run(argument: Any) -> float:
        began = time.perf_counter()
        library.get([first.remote(argument) for _ in range(100)])
        return time.perf_counter() - began

    rounds = 5 if few else 15
    more = [(run(array) - run(small)) / 100 * 1e6 for _ in range(rounds)]
    emit("array_argument", more, "us")


def streamed(library: Any, few: bool) -> None:
    @library.remote(num_returns="streaming")
    def count(number: int):
        for i in range(number):  # noqa: UP028  Ray calls send(), which a range's iterator has not
            yield i

    def run() -> None:
        assert sum(library.get(ref) for ref in count.remote(ITEMS)) == ITEMS * (ITEMS - 1) // 2

    emit("stream", [ITEMS / s for s in timings(run, 1 if few else 5)], "1/s")


def worked(library: Any) -> None:
    @library.remote
    def work() -> None:
        until = time.thread_time() + PIECE_SECONDS
        while time.thread_time() < until:
            pass

    library.get([work.remote() for _ in range(10)])
    began = time.perf_counter()
    library.get([work.remote() for _ in range(PIECES)])
    took = time.perf_counter() - began
    emit("work", [PIECES * PIECE_SECONDS / WORKERS / took], "of ideal")


CONTENDERS = peers(graphs)

if __name__ == "__main__":
    main(CONTENDERS)
