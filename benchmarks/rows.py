"""The table: what is measured by which benchmark, against what, and what is to be reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from importlib.util import find_spec

Results = Mapping[tuple[str, str], float]
"""(metric, contender) -> median over the runs."""


class Against(Enum):
    """How a row is set against its floor."""

    NOTHING = "as measured"
    TIMES = "divided by the floor"
    MORE = "less the floor"


@dataclass(frozen=True)
class Row:
    name: str
    what: str
    bench: str
    metric: str
    reach: float
    unit: str
    at_least: bool
    contender: str = "plasmid"
    floor: str = ""
    against: Against = Against.NOTHING

    def score(self, results: Results) -> float:
        """The figure to compare with `reach`; KeyError if something was not measured."""
        value = results[self.metric, self.contender]
        match self.against:
            case Against.TIMES:
                return value / results[self.metric, self.floor]
            case Against.MORE:
                return value - results[self.metric, self.floor]
        return value

    def reached(self, score: float) -> bool:
        return score >= self.reach if self.at_least else score <= self.reach


def least(name: str, what: str, bench: str, metric: str, reach: float, unit: str) -> Row:
    return Row(name, what, bench, metric, reach, unit, at_least=True)


def most(name: str, what: str, bench: str, metric: str, reach: float, unit: str) -> Row:
    return Row(name, what, bench, metric, reach, unit, at_least=False)


def times(name: str, what: str, bench: str, metric: str, reach: float, floor: str) -> Row:
    return Row(
        name, what, bench, metric, reach, f"x {floor}", True, floor=floor, against=Against.TIMES
    )


def at_most_times(name: str, what: str, bench: str, metric: str, reach: float, floor: str) -> Row:
    return Row(
        name, what, bench, metric, reach, f"x {floor}", False, floor=floor, against=Against.TIMES
    )


# A growth up to this is called linear: neighbouring tenths of one run differ by as much on a
# machine that does other things, too.
LINEAR = 1.3

ROWS = [
    least("put-int", "put of an int, then drop", "small", "put_int", 500e3, "1/s"),
    least("put-100-bytes", "put of 100 bytes, then drop", "small", "put_100_bytes", 500e3, "1/s"),
    least("get-int", "get of an int", "small", "get_int", 1e6, "1/s"),
    most("get-100-mb", "get of a 100 MB array", "large", "get_100_mb", 10, "us"),
    most("get-1-gb", "get of a 1 GB array", "large", "get_1_gb", 10, "us"),
    times("put-warm", "put of 100 MB into warm memory", "large", "put_warm", 0.85, "copyto"),
    times("put-fresh", "put of 100 MB into fresh memory", "large", "put_fresh", 2, "fault"),
    most("round-trip", "no-op task, submit and get", "tasks", "round_trip", 25, "us"),
    at_most_times(
        "round-trip-futex", "no-op task, submit and get", "tasks", "round_trip", 2, "futex"
    ),
    least("batch", "10,000 no-op tasks, 2 workers", "tasks", "batch", 120e3, "1/s"),
    most("submit", "submit of a task", "tasks", "submit", 5, "us"),
    most("nested", "20 tasks that start 10 each", "graphs", "nested", 0.015, "s"),
    most("array-argument", "a 100 MB array as argument", "graphs", "array_argument", 30, "us"),
    least("stream", "generator task of 10,000 items", "graphs", "stream", 30e3, "1/s"),
    least("work", "1,000 tasks of 10 ms of Python", "graphs", "work", 0.97, "of ideal"),
    most("call", "actor call, submit and get", "actors", "call", 25, "us"),
    most("async-call", "async actor call, submit and get", "actors", "async_call", 50, "us"),
    least("calls", "10,000 calls of one actor", "actors", "calls", 120e3, "1/s"),
    least("calls-between", "2 callers, 2 actors, in all", "actors", "calls_between", 1, "x alone"),
    most("create", "an actor, to its first result", "actors", "create", 10, "ms"),
    most("create-many", "100 actors, to all first results", "actors", "create_many", 1, "s"),
    most("array-call", "a 100 MB array as argument", "actors", "array_call", 40, "us more"),
    most("actor-memory", "memory of an idle actor (PSS)", "actors", "actor_pss", 15, "MB"),
    Row(
        "together",
        "two processes putting small objects",
        "contention",
        "put_together",
        1.2,
        "x one",
        at_least=True,
        contender="2 processes",
        floor="1 process",
        against=Against.TIMES,
    ),
    Row(
        "import",
        "import plasmid",
        "start",
        "import",
        60,
        "ms more",
        at_least=False,
        floor="pass",
        against=Against.MORE,
    ),
    most("first-result", "init to the first result", "start", "first_result", 400, "ms"),
    most("idle-cpu", "CPU time of a session, idle 10 s", "idle", "idle_cpu", 1, "ms"),
    most("idle-memory", "memory of an idle worker (PSS)", "idle", "idle_pss", 60, "MB"),
    at_most_times("put-frame", "put, 10 floats x 1e6", "frames", "put_frame", 1.15, "copy"),
    most("get-frame", "get of that frame", "frames", "get_frame", 200, "us"),
    at_most_times("put-strings", "put, str column of 1e6", "frames", "put_strings", 1.3, "copy"),
    most("get-strings", "get of that frame", "frames", "get_strings", 300, "us"),
    most("put-array", "put of an array of 10 items", "frames", "put_array", 3, "us"),
    most("get-array", "get of it", "frames", "get_array", 2, "us"),
    most("put-arrays", "put of a dict of 1,000 arrays", "frames", "put_arrays", 2, "ms"),
    most("get-arrays", "get of it", "frames", "get_arrays", 2, "ms"),
    at_most_times("put-list", "put of a list of 1e6 ints", "frames", "put_list", 1.1, "copy"),
    most("in-place", "seal of 1 GB made in place, get", "in_place", "in_place", 100, "us"),
    times("through-disk", "put 3 x the store, get all", "spill", "through_disk", 0.8, "disk"),
    times("through-fresh", "the first time", "spill", "through_fresh_disk", 0.8, "disk"),
    *(
        Row(
            f"{what}-beside",
            f"{what} of 1 KB beside one who spills, p99",
            "spill",
            f"small_{what}_p99",
            5,
            "x quiet",
            at_least=False,
            contender="beside",
            floor="quiet",
            against=Against.TIMES,
        )
        for what in ("put", "get")
    ),
    most("get-boxed", "get of a list of 10,000 refs", "refs", "get_boxed", 0.01, "s"),
    most("many-arguments", "a task with 10,000 refs", "refs", "many_arguments", 0.3, "s"),
    most("many-returns", "a task with 3,000 returns", "refs", "many_returns", 0.3, "s"),
    most("get-many", "get of 10,000 objects", "refs", "get_many", 0.3, "s"),
    Row(
        "threads",
        "8 threads in each of 2 processes putting",
        "refs",
        "threads",
        1.0,
        "x bytearrays",
        at_least=True,
        contender="threads",
        floor="bytearray",
        against=Against.TIMES,
    ),
]
ROWS += [
    Row(
        "million-rate",
        "1,000,000 tasks queued, then got",
        "many",
        "million_rate",
        80e3,
        "1/s",
        at_least=True,
        contender="million",
    ),
    Row(
        "million-memory",
        "memory of a queued task",
        "many",
        "million_memory",
        1024,
        "bytes",
        at_least=False,
        contender="million",
    ),
]
RAY = [
    ("round-trip", "no-op task, submit and get", "tasks", "round_trip"),
    ("chain", "10,000 tasks, each on the one before", "graphs", "chain"),
    ("tree", "a tree of 1,000 tasks", "graphs", "tree"),
    ("nested", "20 tasks that start 10 each", "graphs", "nested"),
    ("drain", "1,000 results, one by one by wait", "graphs", "drain"),
    ("call", "actor call, submit and get", "actors", "call"),
    ("async-call", "async actor call, submit and get", "actors", "async_call"),
    ("create", "an actor, to its first result", "actors", "create"),
    ("create-many", "100 actors, to all first results", "actors", "create_many"),
]
if find_spec("ray"):
    for name, what, bench, metric in RAY:
        ROWS.append(at_most_times(f"{name}-ray", what, bench, metric, 1 / 20, "ray"))
    ROWS.append(times("calls-ray", "10,000 calls of one actor", "actors", "calls", 20, "ray"))
for stored, number in (("objects", "1,000,000 objects"), ("tasks", "100,000 queued tasks")):
    for metric, what in (
        ("growth", f"{number}: last tenth to first"),
        ("next_put", f"{number}: next put to before"),
    ):
        ROWS.append(
            Row(
                f"many-{stored}-{metric.replace('_', '-')}",
                what,
                "many",
                f"{stored}_{metric}",
                LINEAR,
                "x",
                at_least=False,
                contender=stored,
            )
        )
