"""A worker that comes up when the session has just ended."""

from __future__ import annotations

import os

import pytest

from plasmid._core import core
from plasmid.exceptions import SessionError, SessionNotFoundError
from plasmid.runtime import worker
from plasmid.runtime.environment import ThreadLimit
from plasmid.runtime.start import WorkerStart


def test_it_ends_and_says_nothing() -> None:
    arena = core.Arena.create(1 << 20, 10_000)
    driver = os.pidfd_open(os.getpid())
    bell = os.eventfd(0, os.EFD_CLOEXEC)
    try:
        arena.end()
        assert issubclass(SessionNotFoundError, SessionError)
        with pytest.raises(SessionNotFoundError, match="join the session: the session is over"):
            core.Arena.attach(arena.fd, core.WORKER, driver, bell)
        worker.main(WorkerStart(arena.fd, bell, driver, ThreadLimit({})))
    finally:
        arena.leave()
        os.close(driver)
        os.close(bell)
