"""Random kills and stops of everyone but the driver, under a mixed load.

Every reference ends in the right value or a named error, nothing hangs, and at the end nothing is
left over. The seed is printed by pytest as the test's name. PLASMID_STORM_SECONDS makes each storm
longer; --slow adds seeds and minutes.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import zlib
from typing import Any

import numpy as np
import pytest

import plasmid
from plasmid.exceptions import ObjectStoreFullError, WorkerCrashedError
from processes import Processes, is_alive, kill

SECONDS = float(os.environ.get("PLASMID_STORM_SECONDS", "3"))


@plasmid.remote
def add(a: int, b: int) -> int:
    return a + b


@plasmid.remote(num_returns=2)
def array(seed: int, size: int) -> tuple[Any, int]:
    made = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    return made, zlib.crc32(made)


@plasmid.remote
def checksum(found: Any, refs: list[plasmid.ObjectRef]) -> tuple[int, ...]:
    return (zlib.crc32(found), *(zlib.crc32(item) for item in plasmid.get(refs)))


@plasmid.remote
def tree(depth: int, width: int) -> int:
    if depth == 0:
        return 1
    return sum(plasmid.get([tree.remote(depth - 1, width) for _ in range(width)]))


@plasmid.remote
def putter(n: int) -> list[Any]:
    return [n, [plasmid.put(bytes([n % 256]) * size) for size in (10, 1000, 100_000)]]


@plasmid.remote(num_returns=300)
def many(n: int) -> list[int]:
    return list(range(n, n + 300))


@plasmid.remote(max_retries=0)
def fragile(n: int) -> int:
    return n


@plasmid.remote(max_retries=-1)
def ones(size: int) -> Any:
    return np.ones(size, dtype=np.uint8)


class Load:
    """Submits tasks, and knows what must come of each."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.done = self.crashed = 0

    def round(self) -> None:
        kinds = [self.sums, self.arrays, self.nested, self.puts, self.lists, self.fragile]
        for check in [self.random.choice(kinds)() for _ in range(self.random.randint(1, 8))]:
            try:
                check()
            except WorkerCrashedError:
                self.crashed += 1
            else:
                self.done += 1

    def sums(self) -> Any:
        """A tree of dependent tasks."""
        numbers = [self.random.randrange(1000) for _ in range(16)]
        refs: list[Any] = list(numbers)
        while len(refs) > 1:
            refs = [add.remote(*refs[i : i + 2]) for i in range(0, len(refs), 2)]
        return lambda: self.equal(plasmid.get(refs[0], timeout=60), sum(numbers))

    def arrays(self) -> Any:
        size = self.random.choice([100, 100_000, 5_000_000])
        made, crc = array.remote(self.random.randrange(1 << 30), size)
        mine = np.full(size, 7, dtype=np.uint8)
        seen = checksum.remote(made, [made, plasmid.put(mine)])

        def check() -> None:
            expected = plasmid.get(crc, timeout=60)
            self.equal(plasmid.get(seen, timeout=60), (expected, expected, zlib.crc32(mine)))
            self.equal(zlib.crc32(plasmid.get(made, timeout=60)), expected)

        return check

    def nested(self) -> Any:
        depth, width = self.random.choice([(1, 10), (3, 3), (5, 2)])
        ref = tree.remote(depth, width)
        return lambda: self.equal(plasmid.get(ref, timeout=60), width**depth)

    def puts(self) -> Any:
        n = self.random.randrange(256)
        ref = putter.remote(n)

        def check() -> None:
            got, inside = plasmid.get(ref, timeout=60)
            self.equal(got, n)
            for size, value in zip((10, 1000, 100_000), plasmid.get(inside), strict=True):
                self.equal(value, bytes([n]) * size)

        return check

    def lists(self) -> Any:
        refs = many.remote(5)
        return lambda: self.equal(plasmid.get(refs, timeout=60), list(range(5, 305)))

    def fragile(self) -> Any:
        ref = fragile.remote(9)
        return lambda: self.equal(plasmid.get(ref, timeout=60), 9)

    @staticmethod
    def equal(found: Any, expected: Any) -> None:
        assert found == expected


class Killer(threading.Thread):
    """Kills or stops somebody every few milliseconds; what is stopped goes on a moment later."""

    def __init__(self, session: Processes, seed: int) -> None:
        super().__init__(daemon=True)
        self.session = session
        self.random = random.Random(seed)
        self.over = threading.Event()
        self.victims = 0

    def run(self) -> None:
        while not self.over.wait(self.random.choice([0.003, 0.03, 0.1, 0.3])):
            found = self.victim()
            if not found or not is_alive(found):
                continue
            self.victims += 1
            if self.random.random() < 0.75:
                kill(found)
            else:
                kill(found, signal.SIGSTOP)
                self.over.wait(self.random.choice([0.001, 0.05]))
                kill(found, signal.SIGCONT)

    def victim(self) -> int:
        dice = self.random.random()
        if dice < 0.04:
            return self.session.keeper
        if dice < 0.08:
            return self.session.nursery()
        workers = self.session.workers()
        return self.random.choice(workers) if workers else 0


def storm(session: Processes, seed: int, seconds: float) -> None:
    load, killer = Load(seed), Killer(session, seed)
    until = time.monotonic() + seconds
    killer.start()
    try:
        while time.monotonic() < until:
            load.round()
    finally:
        killer.over.set()
        killer.join()
    session.arena.check()
    assert killer.victims
    assert load.done
    print(f"{load.done} done, {load.crashed} crashed, {killer.victims} killed or stopped")


@pytest.mark.parametrize("seed", range(2))
def test_storm(session: Processes, seed: int) -> None:
    storm(session, seed, SECONDS)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", range(100, 106))
def test_long_storm(session: Processes, seed: int) -> None:
    storm(session, seed, max(60.0, SECONDS))


@pytest.mark.parametrize("session", [(1 << 30, False)], indirect=True)
def test_storm_in_a_full_store(session: Processes) -> None:
    """Most of the room is taken by what is held: results fail by name or are right, and no
    half-written one stays."""
    size = 1 << 24
    kept = [plasmid.put(np.ones(4 * size, dtype=np.uint8)) for _ in range(15)]
    killer = Killer(session, 1)
    killer.start()
    full = 0
    deadline = time.monotonic() + SECONDS
    try:
        while not full or time.monotonic() < deadline:
            refs = [ones.remote(size) for _ in range(8)]
            assert len(plasmid.wait(refs, num_returns=8, timeout=60)[0]) == 8
            for ref in refs:
                try:
                    assert plasmid.get(ref).all()
                except ObjectStoreFullError:
                    full += 1
            del ref, refs
    finally:
        killer.over.set()
        killer.join()
    del kept
