"""What every benchmark needs: a session of either library, timing, a JSON line a measurement.

A benchmark is a script `bench_<what>.py` with a table `CONTENDERS` from name to function. It is
started once per contender, in a process of its own, and prints lines like

    {"metric": "put_int", "contender": "dict", "value": 6e6, "min": 5e6, "max": 7e6, "unit": "1/s"}

`value` is the median.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

HANGS = 300  # seconds after which a contender says where it is and gives up

Contenders = dict[str, Callable[[], None]]

_QUIET = {
    "plasmid": {},
    "ray": {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"},
}


def main(contenders: Contenders) -> None:
    """Run the contender that the command line names."""
    if len(sys.argv) != 2 or sys.argv[1] not in contenders:
        sys.exit(f"usage: {sys.argv[0]} {{{','.join(contenders)}}}")
    faulthandler.dump_traceback_later(HANGS, exit=True)
    contenders[sys.argv[1]]()
    faulthandler.cancel_dump_traceback_later()


def emit(metric: str, values: Iterable[float], unit: str) -> None:
    """Print the median of `values` and how far they spread."""
    values = list(values)
    line = {
        "metric": metric,
        "contender": sys.argv[1],
        "value": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "unit": unit,
    }
    print(json.dumps(line), flush=True)


def peers(run: Callable[[str], None]) -> Contenders:
    """`run` for plasmid, and for Ray where it is installed: both have the same API."""
    names = [name for name in _QUIET if find_spec(name)]
    return {name: lambda name=name: run(name) for name in names}  # type: ignore[misc]


@contextmanager
def session(name: str, **options: Any) -> Iterator[ModuleType]:
    """The library called `name`, between its `init(**options)` and `shutdown()`."""
    library = importlib.import_module(name)
    library.init(**options, **_QUIET[name])
    try:
        yield library
    finally:
        library.shutdown()


def rates(run: Callable[[int], object], number: int, rounds: int = 9) -> list[float]:
    """Operations a second: `run(number)` does so many; the first round warms up and is left out."""
    return [number / seconds for seconds in timings(lambda: run(number), rounds)]


def timings(run: Callable[[], object], rounds: int, warm_up: int = 1) -> list[float]:
    """Seconds of each `run()`, without the first `warm_up` ones."""
    clock = time.perf_counter
    found = []
    for _ in range(rounds + warm_up):
        began = clock()
        run()
        found.append(clock() - began)
    return found[warm_up:]


def descendants(root: int) -> list[int]:
    """The process `root` and all that it started, directly or not."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()
        except OSError:  # ended meanwhile
            continue
        children.setdefault(int(after_name[1]), []).append(int(stat.parent.name))
    family = [root]
    for pid in family:  # grows while we walk
        family += children.get(pid, [])
    return family


def pss(pid: int) -> float:
    """Memory of a process in MB: what is its own, and its part of what is shared."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1e3
    raise RuntimeError(f"no Pss in /proc/{pid}/smaps_rollup")
