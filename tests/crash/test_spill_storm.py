"""Random kills and stops under a load that does not fit into the store by far.

Every object that was stored is what it was, or an error says what became of it; nothing hangs, and
at the end no byte is left in the store, nor on disk. PLASMID_SOAK_SECONDS says how long the slow
one runs (default: an hour).
"""

from __future__ import annotations

import os
import random
import time
import zlib
from typing import Any

import numpy as np
import pytest
from test_kill_storm import SECONDS, Killer

import plasmid
from plasmid.exceptions import ObjectStoreFullError, WorkerCrashedError
from processes import Processes, until

SOAK_SECONDS = float(os.environ.get("PLASMID_SOAK_SECONDS", "3600"))
STORE = 128 << 20
LIVE = 3 * STORE


def values(seed: int, size: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


@plasmid.remote(max_retries=-1)
def make(seed: int, size: int) -> Any:
    return values(seed, size)


@plasmid.remote(max_retries=-1)
def boxed(seed: int, size: int) -> list[Any]:
    return [seed, plasmid.put(values(seed, size)), b"x" * size]


@plasmid.remote(max_retries=-1)
def sums(*found: Any) -> list[int]:
    return [zlib.crc32(each) for each in found]


class Hoard:
    """Objects of all sizes, three times as many bytes as the store has, and what each must be."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.kept: list[tuple[Any, int, int, str]] = []
        self.bytes = self.looks = self.full = 0
        self.least_block = 1.0

    def round(self) -> None:
        self.add()
        while self.bytes > LIVE:
            self.drop()
        for _ in range(2):
            try:
                self.look()
            except ObjectStoreFullError:  # the workers look at the rest
                self.full += 1

    def add(self) -> None:
        size = int(2 ** self.random.uniform(10, 23))
        seed = self.random.randrange(1 << 30)
        kind = self.random.choice(["put", "made", "made", "boxed"])
        if kind == "put":
            ref = plasmid.put(values(seed, size))
        else:
            ref = (make if kind == "made" else boxed).remote(seed, size)
        self.kept.append((ref, seed, size, kind))
        self.bytes += size * (2 if kind == "boxed" else 1)

    def drop(self) -> None:
        _, _, size, kind = self.kept.pop(self.random.randrange(len(self.kept)))
        self.bytes -= size * (2 if kind == "boxed" else 1)

    def look(self) -> None:
        ref, seed, size, kind = self.random.choice(self.kept)
        expected = zlib.crc32(values(seed, size))
        self.looks += 1
        if kind == "boxed":
            found = plasmid.get(ref, timeout=120)
            assert found[0] == seed
            assert found[2] == b"x" * size
            ref = found[1]
        if self.random.random() < 0.5:
            assert zlib.crc32(plasmid.get(ref, timeout=120)) == expected
        else:
            assert plasmid.get(sums.remote(ref, ref), timeout=120) == [expected] * 2


def storm(session: Processes, seed: int, seconds: float) -> None:
    hoard, killer = Hoard(seed), Killer(session, seed)
    arena = session.arena
    ends = time.monotonic() + seconds
    killer.start()
    try:
        # A busy machine may take longer to fill the store, with so many killed a second.
        while time.monotonic() < ends or not arena.stats()["restores"]:
            try:
                hoard.round()
            except WorkerCrashedError:
                continue  # whose submitter was killed, and had made it for us
    finally:
        killer.over.set()
        killer.join()
    arena.check()
    stats = arena.stats()
    assert killer.victims
    assert hoard.looks
    assert stats["spills"]
    print(
        f"{hoard.looks} looks, {killer.victims} killed or stopped, {hoard.full} times full, "
        f"{stats['spills']} spills, {stats['restores']} restores, largest free block "
        f"{stats['heap_largest'] / max(1, stats['heap_free']):.0%} of what is free"
    )
    hoard.kept.clear()

    def is_empty() -> bool:
        """Once the last tasks have ended, and the copies of dead objects have been seen to."""
        now = arena.stats()
        return bool(now["disk_used"] < 1 << 16 and now["heap_used"] < 1 << 16)

    until(is_empty, lambda: f"left: {arena.dump()}")
    arena.check()
    plasmid.get(plasmid.put(np.zeros(int(STORE * 0.97), dtype=np.uint8)))  # in one piece


small = pytest.mark.parametrize("session", [(STORE, True)], indirect=True)


@small
def test_storm(session: Processes) -> None:
    storm(session, 0, 2 * SECONDS)


@small
@pytest.mark.slow
@pytest.mark.timeout(0)
def test_soak(session: Processes) -> None:
    storm(session, 100, SOAK_SECONDS)
