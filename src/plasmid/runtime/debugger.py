"""`breakpoint()` in a task: a debugger on the terminal of the session's program.

The worker opens that terminal by itself; nothing is in between. A terminal that does not control a
process may be read by it at any time. One task at a time has it: a lock on the device, which the
kernel gives back should its owner die, is held from the first prompt until the task goes on.
"""

from __future__ import annotations

import fcntl
import os
import pdb
from types import FrameType
from typing import Any


class Debugger(pdb.Pdb):
    """pdb on a terminal. OSError if there is none."""

    def __init__(self, terminal: str) -> None:
        # Not ours by being opened, so no signal of it is for us.
        fd = os.open(terminal, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        self._reads = os.fdopen(fd)
        self._writes = os.fdopen(os.dup(fd), "w")
        self._has_terminal = False
        super().__init__(stdin=self._reads, stdout=self._writes, nosigint=True)
        self.prompt = f"(Pdb {os.getpid()}) "

    def interaction(self, frame: FrameType | None, *rest: Any) -> None:
        if not self._has_terminal:
            fcntl.flock(self._reads, fcntl.LOCK_EX)  # others wait here without a busy loop
            self._has_terminal = True
        super().interaction(frame, *rest)

    def set_continue(self) -> None:
        super().set_continue()
        self._leave()

    def set_quit(self) -> None:
        super().set_quit()
        self._leave()

    def _leave(self) -> None:
        self._writes.flush()
        fcntl.flock(self._reads, fcntl.LOCK_UN)
        self._has_terminal = False
