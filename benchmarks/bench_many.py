"""Whether cost grows with what is stored: 1,000,000 tiny objects, and 100,000 queued tasks. What
1,000,000 queued tasks take.

For each, how long the last tenth takes compared with the first (1.0: linear), and how long a put
takes with all of it stored compared with before (1.0: no slow-down). Of the million: tasks a second
from the first submit to the last result, and bytes of memory that each takes while it is queued, in
all processes, its reference included.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType

from common import descendants, emit, main, pss, session, timings

OBJECTS = 1_000_000
TASKS = 100_000
MILLION = 1_000_000
WORKERS = 2


def tenths(make: Callable[[], object], number: int) -> tuple[list[object], list[float]]:
    """Call `make` so many times and keep what it returns; the seconds of each tenth."""
    kept: list[object] = []

    def tenth() -> None:
        kept.extend(make() for _ in range(number // 10))

    return kept, timings(tenth, 10, warm_up=0)


def next_put(plasmid: ModuleType) -> float:
    """Median seconds of a put and drop."""
    found = sorted(timings(lambda: plasmid.put(12345), 20_000))
    return found[len(found) // 2]


def report(what: str, number: int, seconds: list[float], before: float, after: float) -> None:
    emit(f"{what}_growth", [seconds[-1] / seconds[0]], "x")
    emit(f"{what}_next_put", [after / before], "x")
    emit(f"{what}_rate", [number / 10 / s for s in seconds], "1/s")


def objects() -> None:
    with session("plasmid", num_cpus=1) as plasmid:
        before = next_put(plasmid)
        kept, seconds = tenths(lambda: plasmid.put(7), OBJECTS)
        report("objects", OBJECTS, seconds, before, next_put(plasmid))
        began = time.perf_counter()
        kept.clear()
        emit("objects_drop_rate", [OBJECTS / (time.perf_counter() - began)], "1/s")


@contextmanager
def all_workers_busy(plasmid: ModuleType) -> Iterator[None]:
    """Until the end of the block each worker reads from a pipe that nobody has written to."""

    @plasmid.remote
    def read(path):
        with open(path) as pipe:
            return pipe.read()

    with tempfile.TemporaryDirectory() as folder:
        pipes = [Path(folder, str(i)) for i in range(WORKERS)]
        for pipe in pipes:
            os.mkfifo(pipe)
        blocked = [read.remote(pipe) for pipe in pipes]
        with ExitStack() as writers:
            for pipe in pipes:
                writers.enter_context(pipe.open("w"))  # returns when a worker has opened it, too
            yield
        plasmid.get(blocked)


def queued() -> None:
    with session("plasmid", num_cpus=WORKERS) as plasmid:

        @plasmid.remote
        def nothing():
            return None

        plasmid.get(nothing.remote())
        with all_workers_busy(plasmid):
            before = next_put(plasmid)
            kept, seconds = tenths(nothing.remote, TASKS)
            report("tasks", TASKS, seconds, before, next_put(plasmid))
        began = time.perf_counter()
        plasmid.get(kept)
        emit("tasks_done_rate", [TASKS / (time.perf_counter() - began)], "1/s")


def million() -> None:
    with session("plasmid", num_cpus=WORKERS) as plasmid:

        @plasmid.remote
        def nothing():
            return None

        plasmid.get([nothing.remote() for _ in range(1000)])
        with all_workers_busy(plasmid):
            before = memory()
            began = time.perf_counter()
            kept = [nothing.remote() for _ in range(MILLION)]
            took = time.perf_counter() - began
            emit("million_memory", [(memory() - before) / MILLION], "bytes")
        began = time.perf_counter()
        plasmid.get(kept)
        emit("million_rate", [MILLION / (took + time.perf_counter() - began)], "1/s")


def memory() -> float:
    """Bytes of this process and all of its session's."""
    return sum(pss(pid) for pid in descendants(os.getpid())) * 1e6


CONTENDERS = {"objects": objects, "tasks": queued, "million": million}

if __name__ == "__main__":
    main(CONTENDERS)
