"""Actors that do nothing: calls one after the other and 10,000 at once, creation, memory.

plasmid, ray  a call and its result, back to back, of a plain and of an async actor; 10,000 calls of
              one actor, then all results; the same from 2 callers to 2 actors, 10,000 each; a call
              with a reference to 100 MB, and without; an actor created until its first result; 100
              of them (of Ray's 20, times 5); what the process of one that idles has in memory
"""

from __future__ import annotations

import os
import statistics
import time
from types import ModuleType
from typing import Any

import numpy as np
from common import emit, main, peers, pss, session, timings

WORKERS = 2
BATCH = 10_000
MANY = 100


def actors(name: str) -> None:
    quick = name == "plasmid"
    with session(name, num_cpus=WORKERS) as library:

        @library.remote(num_cpus=0)
        class Plain:
            def nothing(self, argument: Any = None) -> None:
                return None

            def pid(self) -> int:
                return os.getpid()

        @library.remote(num_cpus=0)
        class Async:
            async def nothing(self) -> None:
                return None

        alone = calls(library, "", Plain.remote(), 7 if quick else 1)
        calls(library, "async_", Async.remote(), 7 if quick else 1)
        emit(
            "calls_between",
            [rate / alone for rate in between(library, Plain, 7 if quick else 1)],
            "x alone",
        )
        argument(library, Plain.remote())
        creation(library, Plain, 9 if quick else 3)


def calls(library: ModuleType, kind: str, actor: Any, rounds: int) -> float:
    """The calls a second."""

    def once() -> None:
        library.get(actor.nothing.remote())

    def batch() -> None:
        library.get([actor.nothing.remote() for _ in range(BATCH)])

    found = sorted(s * 1e6 for s in timings(once, 2000, warm_up=200))
    emit(f"{kind}call", found, "us")
    emit(f"{kind}call_p99", [found[len(found) * 99 // 100]], "us")
    rates = [BATCH / s for s in timings(batch, rounds)]
    emit(f"{kind}calls", rates, "1/s")
    return statistics.median(rates)


def between(library: ModuleType, plain: Any, rounds: int) -> list[float]:
    """Calls a second, of all together."""

    @library.remote
    def caller(actor):
        library.get([actor.nothing.remote() for _ in range(BATCH)])

    called = [plain.remote() for _ in range(WORKERS)]

    def all_call() -> None:
        library.get([caller.remote(actor) for actor in called])

    total = BATCH * len(called)
    return [total / s for s in timings(all_call, rounds)]


def argument(library: ModuleType, actor: Any) -> None:
    """Alternating, so that both meet the same machine."""
    ref = library.put(np.ones(12_500_000))

    def median(*args: Any) -> float:
        found = timings(lambda: library.get(actor.nothing.remote(*args)), 200, warm_up=20)
        return sorted(found)[len(found) // 2] * 1e6

    emit("array_call", [median(ref) - median() for _ in range(9)], "us")


def creation(library: ModuleType, plain: Any, rounds: int) -> None:
    def one() -> None:
        library.get(plain.remote().nothing.remote())

    emit("create", [s * 1e3 for s in timings(one, rounds)], "ms")
    began = time.perf_counter()
    many = [plain.remote() for _ in range(MANY if library.__name__ == "plasmid" else MANY // 5)]
    library.get([actor.nothing.remote() for actor in many])
    emit("create_many", [(time.perf_counter() - began) / len(many) * MANY], "s")
    pids = library.get([actor.pid.remote() for actor in many])
    time.sleep(1)
    emit("actor_pss", [pss(pid) for pid in pids], "MB")


CONTENDERS = peers(actors)

if __name__ == "__main__":
    main(CONTENDERS)
