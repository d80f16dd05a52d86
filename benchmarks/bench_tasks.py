"""Tasks that do nothing: one after the other, and 10,000 at once, with 2 workers.

plasmid, ray  submit and get one, back to back; submit 10,000, then get all; what a submit takes
pool          the same with concurrent.futures.ProcessPoolExecutor
futex         two processes that wake each other and sleep, back to back
"""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from common import emit, main, peers, session, timings

WORKERS = 2
BATCH = 10_000


def report(once: Callable[[], object], batch: Callable[[], object], rounds: int) -> None:
    found = sorted(s * 1e6 for s in timings(once, 2000, warm_up=200))
    emit("round_trip", found, "us")
    emit("round_trip_p99", [found[len(found) * 99 // 100]], "us")
    emit("batch", [BATCH / s for s in timings(batch, rounds)], "1/s")


def tasks(name: str) -> None:
    with session(name, num_cpus=WORKERS) as library:

        @library.remote
        def nothing():
            return None

        report(
            lambda: library.get(nothing.remote()),
            lambda: library.get([nothing.remote() for _ in range(BATCH)]),
            rounds=7 if name == "plasmid" else 1,
        )

        def submits() -> float:
            began = time.perf_counter()
            refs = [nothing.remote() for _ in range(BATCH)]
            took = time.perf_counter() - began
            library.get(refs)
            return took / BATCH * 1e6

        emit("submit", [submits() for _ in range(7 if name == "plasmid" else 1)], "us")


def nothing() -> None:
    return None


def pool() -> None:
    with ProcessPoolExecutor(WORKERS) as executor:
        report(
            lambda: executor.submit(nothing).result(),
            lambda: [f.result() for f in [executor.submit(nothing) for _ in range(BATCH)]],
            rounds=3,
        )


class Futex:
    """A word of shared memory to sleep on."""

    WAIT, WAKE, NUMBER = 0, 1, {"x86_64": 202, "aarch64": 98}[os.uname().machine]

    def __init__(self, memory: mmap.mmap, offset: int) -> None:
        self._word = ctypes.c_uint32.from_buffer(memory, offset)
        self._call = ctypes.CDLL(None).syscall
        self._at = ctypes.byref(self._word)

    def wake(self) -> None:
        self._word.value = 1
        self._call(self.NUMBER, self._at, self.WAKE, 1, None, None, 0)

    def sleep(self) -> None:
        while not self._word.value:
            self._call(self.NUMBER, self._at, self.WAIT, 0, None, None, 0)
        self._word.value = 0


def futex() -> None:
    memory = mmap.mmap(-1, 4096)
    ours, theirs = Futex(memory, 0), Futex(memory, 64)
    pid = os.fork()
    if pid == 0:
        while True:
            theirs.sleep()
            ours.wake()

    def once() -> None:
        theirs.wake()
        ours.sleep()

    try:
        emit("round_trip", [s * 1e6 for s in timings(once, 2000, warm_up=200)], "us")
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


CONTENDERS = {**peers(tasks), "pool": pool, "futex": futex}

if __name__ == "__main__":
    main(CONTENDERS)
