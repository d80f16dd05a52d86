"""The session that most tests here use, and the proof after each that nothing is left of it."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import OWNER, STORE, Gate, arena, nothing_left, until

import plasmid
from plasmid._core import core

os.environ[OWNER] = str(os.getpid())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    report = yield
    if report.when == "call":
        item.stash[_PASSED] = report.passed
    return report


_PASSED = pytest.StashKey[bool]()


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where sessions may make files; nobody else does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary")))
        yield


@pytest.fixture(scope="module")
def session(request: pytest.FixtureRequest) -> Iterator[None]:
    """One session for all tests of a module, with two CPUs and a small store."""
    failed = request.session.testsfailed
    with nothing_left(unless=lambda: request.session.testsfailed > failed):
        plasmid.init(num_cpus=2, object_store_memory=STORE)
        yield
        plasmid.shutdown()
        gc.collect()


@pytest.fixture
def no_session() -> Iterator[None]:
    """For a test that makes sessions of its own in a module that has one."""
    plasmid.shutdown()
    yield
    plasmid.shutdown()
    plasmid.init(num_cpus=2, object_store_memory=STORE)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    made = Gate(tmp_path)
    yield made
    made.open()


@pytest.fixture(autouse=True)
def everything_given_back(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a test that has passed, its objects and tasks are gone from the session it ran in; if
    it made sessions of its own, all of these."""
    if plasmid.is_initialized():
        before = _objects()
        keepers, session = _keepers(), arena().session
        yield
        if keepers and plasmid.is_initialized() and arena().session == session:
            assert _keepers() == keepers, "the keeper has died"
        if request.node.stash.get(_PASSED, False) and plasmid.is_initialized():
            _check_objects(before)
        return
    with nothing_left(unless=lambda: not request.node.stash.get(_PASSED, False)):
        yield
        if plasmid.is_initialized():
            arena().check()
            plasmid.shutdown()
        _forget()


def _check_objects(before: int) -> None:
    _forget()
    arena().check()
    until(lambda: arena().stats()["tasks"] == 0, "tasks are left")
    until(lambda: _objects() <= before, f"objects are left:\n{arena().dump()}")


def _objects() -> int:
    """How many there are, exported functions not counted: these live as long as the functions."""
    stats = arena().stats()
    return stats["entries"] - stats["keys"]


def _keepers() -> list[int]:
    return [each.pid for each in arena().clients() if each.kind == core.KEEPER]


def _forget() -> None:
    """Let go what Python keeps of the last exceptions, and with them of a test's variables."""
    for name in ("last_value", "last_exc", "last_traceback"):
        if hasattr(sys, name):
            delattr(sys, name)
    gc.collect()
