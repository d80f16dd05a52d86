"""`plasmid demo`: what Python's standard library consists of, counted on all cores.

The sources are put into shared memory once, as one object. Tasks get it as an argument, which is a
view and not a copy, parse a range of the files each and return their counts; the counts are added
up as they arrive. Then one process does the same work on the same sources: its answer must be the
same, and the ratio of the two times is the speed-up.
"""

from __future__ import annotations

import ast
import gc
import json
import os
import pickle
import sys
import sysconfig
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import plasmid
from plasmid._progress import progress

_SKIPPED = {"site-packages", "dist-packages", "__pycache__"}  # not the library's own source
_BATCHES_PER_WORKER = 32  # small enough that no worker is left alone with a long one at the end
_SHOWN = 8  # names and calls in the printed answer


class Sources(NamedTuple):
    """All files in one array; file `i` is `text[starts[i]:starts[i + 1]]`."""

    text: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]

    @property
    def files(self) -> int:
        return len(self.starts) - 1

    def nbytes(self, batch: range) -> int:
        """Bytes of the files in `batch`."""
        return int(self.starts[batch.stop] - self.starts[batch.start])


@dataclass
class Count:
    """What was found in some files. Equal counts mean equal answers."""

    files: int = 0
    not_parsed: int = 0
    lines: int = 0
    names: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)

    def add(self, other: Count) -> None:
        self.files += other.files
        self.not_parsed += other.not_parsed
        self.lines += other.lines
        self.names.update(other.names)
        self.calls.update(other.calls)


@dataclass
class Parallel:
    """The answer of the tasks, and what it took."""

    count: Count = field(default_factory=Count)
    workers: int = 0
    tasks: int = 0
    in_place: int = 0  # tasks that found the sources in a shared mapping
    returned: int = 0  # bytes of their pickled results
    init_seconds: float = 0.0
    put_seconds: float = 0.0
    seconds: float = 0.0  # put, tasks and adding up


def run(folder: Path | None, *, cpus: int | None, as_json: bool) -> int:
    """Print the answer for `folder` (default: the standard library) and return the exit status."""
    folder = folder or Path(sysconfig.get_path("stdlib"))
    if not as_json:
        print(f"Counting names and calls in {folder}", flush=True)
    sources = read_sources(python_files(folder))
    if not sources.files:
        print(f"plasmid demo: no readable Python files in {folder}", file=sys.stderr)
        return 1
    shared = count_in_tasks(sources, cpus)
    alone, seconds = count_alone(sources, shared.tasks)
    show = print_json if as_json else print_text
    show(folder, sources, shared, alone == shared.count, seconds)
    if alone != shared.count:
        print("plasmid demo: the tasks and one process disagree", file=sys.stderr)
        return 1
    return 0


# --- the sources


def python_files(folder: Path) -> Iterator[Path]:
    """Every `.py` file under `folder` that is not installed by the user, in a fixed order."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(set(folders) - _SKIPPED)
        yield from (Path(parent, name) for name in sorted(files) if name.endswith(".py"))


def read_sources(paths: Iterable[Path]) -> Sources:
    """Read all files that can be read into one array."""
    text = bytearray()
    starts = [0]
    for path in paths:
        try:
            text += path.read_bytes()
        except OSError:  # a dangling link, no permission
            continue
        starts.append(len(text))
    return Sources(np.frombuffer(text, np.uint8), np.array(starts, np.int64))


def batches(sources: Sources, number: int) -> list[range]:
    """Cut the files into about `number` consecutive ranges of about the same size in bytes."""
    size = max(1, len(sources.text) // number)
    cuts = np.searchsorted(sources.starts, np.arange(0, len(sources.text), size))
    edges = sorted({*cuts.tolist(), 0, sources.files})
    return [range(start, stop) for start, stop in pairwise(edges)]


# --- the work


def count_files(sources: Sources, batch: range) -> Count:
    """Parse the files in `batch` and count."""
    first, last = sources.starts[batch.start], sources.starts[batch.stop]
    count = Count(len(batch), lines=int(np.count_nonzero(sources.text[first:last] == ord("\n"))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old string escapes and the like
        for i in batch:
            file = sources.text[sources.starts[i] : sources.starts[i + 1]]
            try:
                tree = ast.parse(file.data)  # decoded as the file's own first lines ask for
            except (SyntaxError, ValueError, RecursionError):
                # The library's tests come with files that are wrong on purpose.
                count.not_parsed += 1
            else:
                count_nodes(tree, count)
    return count


def count_nodes(tree: ast.AST, count: Count) -> None:
    """Add the names and calls in `tree` to `count`; `a.b.c()` counts as a call of `c`."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name):
                count.names[name] += 1
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
                count.calls[name] += 1


def in_shared_mapping(array: npt.NDArray[Any]) -> bool:
    """Whether the kernel says that `array` lies in memory which processes share."""
    address = array.__array_interface__["data"][0]
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, permissions, *_ = line.split()
            first, last = (int(end, 16) for end in span.split("-"))
            if first <= address < last:
                return permissions[3] == "s"
    return False


@plasmid.remote
def count_task(sources: Sources, batch: range) -> tuple[Count, bool]:
    return count_files(sources, batch), in_shared_mapping(sources.text)


def count_in_tasks(sources: Sources, cpus: int | None) -> Parallel:
    """Share `sources` once, count them in tasks on `cpus` workers, add up what arrives."""
    done = Parallel()
    partial: list[Count] = []
    began = time.perf_counter()
    plasmid.init(num_cpus=cpus)
    try:
        done.workers = int(plasmid.cluster_resources()["CPU"])
        ranges = batches(sources, done.workers * _BATCHES_PER_WORKER)
        done.tasks = len(ranges)
        done.init_seconds = time.perf_counter() - began
        with progress("tasks", len(sources.text)) as advance:
            began = time.perf_counter()
            shared = plasmid.put(sources)
            done.put_seconds = time.perf_counter() - began
            nbytes = {count_task.remote(shared, r): sources.nbytes(r) for r in ranges}
            pending = list(nbytes)
            while pending:
                ready, pending = plasmid.wait(pending)
                for ref in ready:
                    count, in_place = plasmid.get(ref)
                    done.count.add(count)
                    done.in_place += in_place
                    partial.append(count)
                    advance(nbytes[ref])
            done.seconds = time.perf_counter() - began
    finally:
        plasmid.shutdown()
    done.returned = sum(len(pickle.dumps(count)) for count in partial)
    return done


def count_alone(sources: Sources, tasks: int) -> tuple[Count, float]:
    """The same work in this process: the answer and its seconds."""
    total = Count()
    gc.freeze()  # as in a worker, so that only the number of processes differs
    try:
        with progress("one process", len(sources.text)) as advance:
            began = time.perf_counter()
            for batch in batches(sources, tasks):
                total.add(count_files(sources, batch))
                advance(sources.nbytes(batch))
            seconds = time.perf_counter() - began
    finally:
        gc.unfreeze()
    return total, seconds


# --- the report


def print_text(folder: Path, sources: Sources, done: Parallel, same: bool, alone: float) -> None:
    count, size = done.count, len(sources.text)
    copied = (done.tasks - done.in_place) * size
    print(
        f"""
  files    {count.files:,} ({count.not_parsed} do not parse), {count.lines:,} lines
  names    {_top(count.names)}
  calls    {_top(count.calls)}

  shared   {_mb(size)}, put once in {done.put_seconds * 1e3:.0f} ms; \
{done.in_place} of {done.tasks} tasks read it in place
  copied   {_mb(copied)} of it for tasks, {_mb(done.returned)} of results
  speed    {done.seconds:.2f} s with {_workers(done.workers)}, {alone:.2f} s in one process: \
{alone / done.seconds:.2f} x (session started in {done.init_seconds * 1e3:.0f} ms)
  check    {"one process finds the same" if same else "ONE PROCESS FINDS SOMETHING ELSE"}"""
    )


def print_json(folder: Path, sources: Sources, done: Parallel, same: bool, alone: float) -> None:
    count = done.count
    report = {
        "folder": str(folder),
        "files": count.files,
        "not_parsed": count.not_parsed,
        "lines": count.lines,
        "names": dict(count.names.most_common(_SHOWN)),
        "calls": dict(count.calls.most_common(_SHOWN)),
        "workers": done.workers,
        "tasks": done.tasks,
        "tasks_in_place": done.in_place,
        "shared_bytes": len(sources.text),
        "returned_bytes": done.returned,
        "init_seconds": done.init_seconds,
        "put_seconds": done.put_seconds,
        "seconds": done.seconds,
        "one_process_seconds": alone,
        "speed_up": alone / done.seconds,
        "same_answer": same,
    }
    print(json.dumps(report, indent=1))


def _top(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counter.most_common(_SHOWN))


def _workers(number: int) -> str:
    return f"{number} worker{'s' if number > 1 else ''}"


def _mb(nbytes: int) -> str:
    return f"{nbytes / 1e6:.1f} MB" if nbytes else "nothing"
