"""The nursery's forks end as workers, whatever tasks have done to them."""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Any

import pytest

from plasmid.runtime import lifeline, nursery, worker
from plasmid.runtime.nursery import Nursery


class Broken:
    def write(self, text: str) -> int:
        raise RuntimeError("write")

    def flush(self) -> None:
        raise SystemExit(3)


@pytest.mark.parametrize("stream", [Broken(), None], ids=["raises", "none"])
@pytest.mark.parametrize("error", [None, KeyError()], ids=["retires", "fails"])
def test_a_worker_with_broken_streams_ends_and_does_not_become_a_nursery(
    monkeypatch: pytest.MonkeyPatch, stream: Any, error: Exception | None
) -> None:
    def work(start: object) -> None:
        sys.stdout = sys.stderr = stream
        if error:
            raise error

    monkeypatch.setattr(worker, "main", work)
    monkeypatch.setattr(lifeline, "tie_myself", lambda fd: None)
    monkeypatch.setattr(nursery, "set_title", lambda title: None)
    control, _ = socket.socketpair()
    life, other = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(30)
            start: Any = None
            Nursery(control, life, start, "", "")._work()
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == (1 if error else 0)
    os.close(life)
    os.close(other)
