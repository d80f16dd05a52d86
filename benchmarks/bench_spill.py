"""More than fits: objects through the disk and back, and small objects beside that.

disk          1 MB writes of as many bytes to a file in the same folder, then 1 MB reads; the file
              stays between the rounds, as the spill file's pages do
plasmid, ray  arrays of 50 MB, three times as much as the store holds: all put, then all got, and
              the last item of each looked at
quiet, beside put and get of 1 KB, alone and beside a process that puts arrays without end, which
              have to be spilled
"""

from __future__ import annotations

import os
import tempfile
import time
from types import ModuleType

import numpy as np
from common import emit, main, peers, session

STORE = 400_000_000
PART = 50_000_000
PARTS = 3 * STORE // PART
ROUNDS = 3
PIECE = 1 << 20
SECONDS = 3.0


def disk() -> None:
    piece = bytes(PIECE)
    pieces = PARTS * PART // PIECE
    with tempfile.TemporaryFile(buffering=0) as file:
        found = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            file.seek(0)
            for _ in range(pieces):
                file.write(piece)
            file.seek(0)
            for _ in range(pieces):
                file.read(PIECE)
            found.append(pieces * PIECE / (time.perf_counter() - began) / 1e6)
    emit_rounds(found)


def emit_rounds(found: list[float]) -> None:
    """The first apart: it makes the file's pages, which the others find."""
    emit("through_fresh_disk", found[:1], "MB/s")
    emit("through_disk", found[1:], "MB/s")


def arrays(name: str) -> None:
    parts = [np.full(PART // 8, n, dtype=float) for n in range(3)]
    with session(name, num_cpus=2, object_store_memory=STORE) as library:
        found = [through(library, parts) for _ in range(ROUNDS)]
    emit_rounds(found)


def through(library: ModuleType, parts: list[np.ndarray]) -> float:
    """MB/s of all that is put and got."""
    began = time.perf_counter()
    refs = [library.put(parts[n % 3]) for n in range(PARTS)]
    for n, ref in enumerate(refs):
        array = library.get(ref)
        assert array[-1] == n % 3
        del array
    return PARTS * PART / (time.perf_counter() - began) / 1e6


def small(beside: bool) -> None:
    """The 99th percentile of a put and of a get of 1 KB."""
    value = os.urandom(1000)
    with session("plasmid", num_cpus=1, object_store_memory=STORE) as library:

        @library.remote
        def fill(seconds: float) -> int:
            part = np.ones(PART // 8)
            until, refs = time.monotonic() + seconds, []
            while time.monotonic() < until:
                refs.append(library.put(part))
                del refs[: -2 * STORE // PART]
            return len(refs)

        library.get(fill.remote(0.01))
        filling = fill.remote(SECONDS) if beside else None
        until = time.monotonic() + SECONDS
        puts, gets = [], []
        while time.monotonic() < until:
            began = time.perf_counter()
            ref = library.put(value)
            between = time.perf_counter()
            library.get(ref)
            puts.append((between - began) * 1e6)
            gets.append((time.perf_counter() - between) * 1e6)
        if filling:
            library.get(filling)
    for what, found in (("put", puts), ("get", gets)):
        found.sort()
        emit(f"small_{what}_p99", [found[len(found) * 99 // 100]], "us")


CONTENDERS = {
    "disk": disk,
    **peers(arrays),
    "quiet": lambda: small(beside=False),
    "beside": lambda: small(beside=True),
}

if __name__ == "__main__":
    main(CONTENDERS)
