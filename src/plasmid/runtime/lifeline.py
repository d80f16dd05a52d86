"""Lifelines: the kernel kills a process when another is gone, whatever either was doing.

A pipe whose write end only one process has; whoever is to end with it has the read end, set up so
that the kernel sends SIGKILL at the moment the write end is closed. That needs no thread and no
instruction of the victim: it works while that is stopped, or deep in somebody's slow import, where
the core's watcher thread (stopped with its process) or PR_SET_PDEATHSIG (set by the victim itself,
after its interpreter has started) do not.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal


def tie(read_end: int, pid: int) -> None:
    """Have process `pid` killed when the write end is closed. The victim must inherit this open
    file description: it is the registration."""
    fcntl.fcntl(read_end, fcntl.F_SETOWN, pid)
    fcntl.fcntl(read_end, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(read_end, fcntl.F_SETFL, fcntl.fcntl(read_end, fcntl.F_GETFL) | os.O_ASYNC)


def tie_myself(read_end: int) -> None:
    """The same for this process: under the same number it gets an open file description of its
    own."""
    own = os.open(f"/proc/self/fd/{read_end}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.dup2(own, read_end, os.get_inheritable(read_end))
    os.close(own)
    tie(read_end, os.getpid())
    closed = select.poll()
    closed.register(read_end, 0)
    if closed.poll(0):  # it happened before: nobody will tell us again
        os.kill(os.getpid(), signal.SIGKILL)


class Lifeline:
    """The driver's end.

    Processes and threads: a forked child gives up its copy of the write end at once, so that it
    keeps nobody alive. (A fork by C code keeps it; then the core's watcher threads do the work.)
    """

    def __init__(self) -> None:
        self.read_end, self._write_end = os.pipe()
        _uncut.add(self)

    def cut(self) -> None:
        """Kill whoever is tied to it. May be called again."""
        if self in _uncut:
            self.leave()
            os.close(self.read_end)

    def leave(self) -> None:
        """Give up this process's copy of the write end."""
        _uncut.discard(self)
        os.close(self._write_end)


_uncut: set[Lifeline] = set()


def _forked() -> None:
    for line in list(_uncut):
        line.leave()


os.register_at_fork(after_in_child=_forked)
