"""What a session costs while nothing happens.

CPU time of the driver and all its processes, all threads, over 10 s, from the scheduler's own
nanoseconds; and the proportional set size of each worker (private pages, and its part of shared
ones). The workers have run tasks on a numpy array, so they have what they need loaded.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
from common import emit, main, peers, session

WORKERS = 2
SETTLE = 2.0  # seconds, for what init left to do in the background
WATCHED = 10.0


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


def cpu_seconds(pids: list[int]) -> float:
    total = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            if int(thread.name) != threading.get_native_id():  # the thread that measures
                total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9


def pss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1e3
    raise RuntimeError(f"no Pss in /proc/{pid}/smaps_rollup")


def watch(name: str) -> None:
    with session(name, num_cpus=WORKERS) as library:

        @library.remote
        def work(array):
            time.sleep(0.2)  # long enough for another worker to take the next one
            return os.getpid(), float(array.sum())

        array = library.put(np.ones(1000))
        workers = {pid for pid, _ in library.get([work.remote(array) for _ in range(2 * WORKERS)])}
        time.sleep(SETTLE)
        family = descendants(os.getpid())
        before = cpu_seconds(family)
        time.sleep(WATCHED)
        emit("idle_cpu", [(cpu_seconds(family) - before) * 1e3], "ms")
        emit("idle_pss", [pss(pid) for pid in workers], "MB")
        emit("idle_processes", [len(family)], "processes")


CONTENDERS = peers(watch)

if __name__ == "__main__":
    main(CONTENDERS)
