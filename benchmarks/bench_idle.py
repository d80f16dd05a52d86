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
from common import descendants, emit, main, peers, pss, session

WORKERS = 2
SETTLE = 12.0  # seconds, for what init left to do in the background, and surplus workers to retire
WATCHED = 10.0


def cpu_time(pids: list[int]) -> dict[tuple[int, int], int]:
    """Nanoseconds that each (process, thread) has run, but for the thread that measures."""
    found = {}
    for pid in pids:
        for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            thread = int(file.parent.name)
            try:
                if thread != threading.get_native_id():
                    found[pid, thread] = int(file.read_text().split()[0])
            except OSError:  # ended meanwhile
                continue
    return found


def watch(name: str) -> None:
    with session(name, num_cpus=WORKERS) as library:

        @library.remote
        def work(array):
            time.sleep(0.2)  # long enough for another worker to take the next one
            return os.getpid(), float(array.sum())

        array = library.put(np.ones(1000))
        workers = {pid for pid, _ in library.get([work.remote(array) for _ in range(2 * WORKERS)])}
        time.sleep(SETTLE)
        before = cpu_time(descendants(os.getpid()))
        time.sleep(WATCHED)
        family = descendants(os.getpid())
        after = cpu_time(family)
        spent = sum(time - before.get(thread, 0) for thread, time in after.items())
        emit("idle_cpu", [spent / 1e6], "ms")
        emit("idle_pss", [pss(pid) for pid in workers], "MB")
        emit("idle_processes", [len(family)], "processes")


CONTENDERS = peers(watch)

if __name__ == "__main__":
    main(CONTENDERS)
