"""Large arrays in one process: get, and put into memory in three states.

plasmid, ray  `get` of 100 MB and 1 GB; `put` of 100 MB, warm: into memory that an object just
              left; fresh: into memory that no object ever used
huge          the fresh put with PLASMID_HUGE_PAGES=1, where the machine gives shared memory some
copyto        the floor of a warm put: `numpy.copyto` between two arrays used before
fault         the floor of a fresh put: `numpy.copyto` into a new shared mapping, page by page

A put is in GB/s of the array's bytes. What is put is in memory already in every case.
"""

from __future__ import annotations

import mmap
import os
import time
import warnings

import numpy as np
from common import emit, main, peers, session, timings

from plasmid.runtime.huge_pages import huge_pages

MB = 10**6
SIZE = 100 * MB
ROUNDS = 7


def source() -> np.ndarray:
    return np.ones(SIZE, np.uint8)


def speeds(seconds: list[float]) -> list[float]:
    return [SIZE / s / 1e9 for s in seconds]


def get(name: str) -> None:
    with session(name, num_cpus=1, object_store_memory=1500 * MB) as library:
        for metric, size in (("get_100_mb", 100 * MB), ("get_1_gb", 1000 * MB)):
            ref = library.put(np.zeros(size, np.uint8))
            found = timings(lambda ref=ref: library.get(ref), 500, warm_up=20)
            emit(metric, [s * 1e6 for s in found], "us")
            del ref


def put_warm(name: str) -> None:
    with session(name, num_cpus=1, object_store_memory=1500 * MB) as library:
        array = source()
        # Each ref is dropped before the next put begins, so that all find the same block.
        found = timings(lambda: library.put(array), ROUNDS, warm_up=2)
        emit("put_warm", speeds(found), "GB/s")


def put_fresh(name: str) -> None:
    with session(name, num_cpus=1, object_store_memory=(ROUNDS + 4) * SIZE) as library:
        array = source()
        kept = []
        found = timings(lambda: kept.append(library.put(array)), ROUNDS, warm_up=0)
        emit("put_fresh", speeds(found), "GB/s")


def store(name: str) -> None:
    get(name)
    put_warm(name)
    put_fresh(name)


def huge() -> None:
    os.environ["PLASMID_HUGE_PAGES"] = "1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        gives = huge_pages()
    if gives:
        put_fresh("plasmid")


def copyto() -> None:
    array, target = source(), source()
    emit("put_warm", speeds(timings(lambda: np.copyto(target, array), ROUNDS, warm_up=2)), "GB/s")


def fault() -> None:
    array = source()
    kept, found = [], []
    for _ in range(ROUNDS):
        memory = mmap.mmap(-1, SIZE)  # shared, without a file
        target = np.frombuffer(memory, np.uint8)
        began = time.perf_counter()
        np.copyto(target, array)
        found.append(time.perf_counter() - began)
        kept.append(target)
    emit("put_fresh", speeds(found), "GB/s")


CONTENDERS = {**peers(store), "huge": huge, "copyto": copyto, "fault": fault}

if __name__ == "__main__":
    main(CONTENDERS)
