"""The Python stacks of workers, also of one that is stuck in C code: what `plasmid stack` prints.

Each worker keeps a nameless file for them, and a pipe, whose number stands first in the file. A
signal has Python's faulthandler write the stacks of all its threads there, in C, whatever the
interpreter does; then a handler of ours writes a byte 0, which says that this is all, and one into
the pipe. The reader opens both through /proc and sleeps until something is in the pipe. (inotify
tells nothing of files in memory.)

To the program a signal is not nothing: C code in a call that any signal ends early, sleep() say,
sees it end.
"""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress

from plasmid._core import core

SIGNAL = 48
"""SIGRTMIN + 14: programs have no use for it."""

_FILE = "plasmid stack"


def ignore() -> None:
    """A process that is not ready for the signal must not die of it, nor those that it forks."""
    signal.signal(SIGNAL, signal.SIG_IGN)


def prepare() -> None:
    """Answer the signal from now on. In this process only, once."""
    bell, ring = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    file = os.memfd_create(_FILE)
    os.write(file, b"%d\n" % bell)
    core.mark_on_signal(SIGNAL, file, ring)
    faulthandler.register(SIGNAL, file=file, all_threads=True, chain=True)


def read(processes: Iterable[int], patience: float) -> dict[int, str]:
    """The stacks of these processes, all asked at once. Of one that does not answer within
    `patience` seconds, because it is stopped or still starting, a text that says so."""
    until = time.monotonic() + patience
    found: dict[int, str] = {}
    with ExitStack() as stack:
        asked = {pid: _Reader(pid, stack) for pid in processes}
        for pid, reader in asked.items():
            try:
                reader.ask()
            except (OSError, LookupError) as error:
                found[pid] = f"(it cannot be asked: {error})"
        for pid, reader in asked.items():
            if pid not in found:
                found[pid] = reader.answer(until)
    return found


class _Reader:
    def __init__(self, pid: int, stack: ExitStack) -> None:
        self._pid = pid
        self._stack = stack

    def ask(self) -> None:
        self._process = self._keep(os.pidfd_open(self._pid))
        self._file = self._keep(os.open(self._path(), os.O_RDONLY))
        bell = os.pread(self._file, 20, 0).partition(b"\n")[0].decode()
        if not bell:
            raise LookupError("it is just starting")
        flags = os.O_RDONLY | os.O_NONBLOCK
        self._bell = self._keep(os.open(f"/proc/{self._pid}/fd/{bell}", flags))
        self._from = os.fstat(self._file).st_size
        # Opened before the file was found: it is the same process.
        signal.pidfd_send_signal(self._process, SIGNAL)

    def answer(self, until: float) -> str:
        events = select.poll()
        events.register(self._bell, select.POLLIN)
        events.register(self._process, select.POLLIN)
        while True:
            with suppress(BlockingIOError):  # one byte: others may wait for theirs
                os.read(self._bell, 1)
            text = os.pread(self._file, 1 << 20, self._from)
            if text.endswith(b"\0"):
                return text[:-1].decode(errors="replace").strip()
            left = until - time.monotonic()
            if left <= 0:
                return "(no answer: it is stopped, or was just starting)"
            for fd, _ in events.poll(left * 1000):
                if fd == self._process:
                    return "(it has ended)"

    def _path(self) -> str:
        folder = f"/proc/{self._pid}/fd"
        for name in os.listdir(folder):
            with suppress(OSError):
                if _FILE in os.readlink(f"{folder}/{name}"):
                    return f"{folder}/{name}"
        raise LookupError("it is just starting")

    def _keep(self, fd: int) -> int:
        self._stack.callback(os.close, fd)
        return fd
