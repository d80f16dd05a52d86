"""A session in the test's own process, whose processes are killed; and the proof that it is well
after."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import plasmid
from processes import MARK, Meeting, Processes, marked, new_mark, until

CPUS = 2


@pytest.fixture
def session(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Processes]:
    """A session of two CPUs; a test may say how large its store is, and whether there is a disk.
    After the test, whatever was killed: CPUs and workers are complete, the arena proves its
    invariants, nothing is stored but functions; and after shutdown no process and no descriptor is
    left."""
    mark = new_mark()
    monkeypatch.setenv(MARK, mark)
    monkeypatch.setenv("PLASMID_STORE_FULL_SECONDS", "0.2")
    store, disk = getattr(request, "param", (1 << 30, True))
    if not disk:
        monkeypatch.setenv("PLASMID_SPILL_BYTES", "0")
    before = descriptors()
    plasmid.init(num_cpus=CPUS, object_store_memory=store)
    found = Processes()
    try:
        yield found
        assert_well(found)
    finally:
        plasmid.shutdown()
    until(lambda: not marked(mark), "no process is left")
    assert descriptors() == before


def descriptors() -> list[str]:
    """What this process has open, but for what an arena keeps until its last reference is gone."""
    gc.collect()  # what other tests have left to it
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the folder itself
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    kept = ("/memfd:plasmid ", "anon_inode:[eventfd]")
    nameless = "/#"  # as the spill file is
    return sorted(name for name in found if not name.startswith(kept) and nameless not in name)


@pytest.fixture
def meeting(tmp_path: Path) -> Iterator[Meeting]:
    found = Meeting(tmp_path)
    yield found
    found.close()


def assert_well(session: Processes) -> None:
    session.await_workers()
    gc.collect()
    arena = session.arena
    until(lambda: arena.stats()["tasks"] == 0, "no task is left")
    assert plasmid.available_resources()["CPU"] == plasmid.cluster_resources()["CPU"]
    # The configuration, and functions by their keys.
    until(lambda: arena.stats()["entries"] == 1 + arena.stats()["keys"], "no object is left")
    arena.check()
    assert not arena.failure()
