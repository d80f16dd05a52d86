"""Tasks that do nothing: one after the other, and 10,000 at once, with 2 workers.

plasmid, ray  submit and get one, back to back; submit 10,000, then get all
pool          the same with concurrent.futures.ProcessPoolExecutor
"""

from __future__ import annotations

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


def nothing() -> None:
    return None


def pool() -> None:
    with ProcessPoolExecutor(WORKERS) as executor:
        report(
            lambda: executor.submit(nothing).result(),
            lambda: [f.result() for f in [executor.submit(nothing) for _ in range(BATCH)]],
            rounds=3,
        )


CONTENDERS = {**peers(tasks), "pool": pool}

if __name__ == "__main__":
    main(CONTENDERS)
