"""What tasks print, in the driver: a thread that follows the workers' output files.

Each worker (and, for its stderr, the keeper and the nursery) sends its files over the log socket,
see `output`. The thread sleeps in poll until inotify reports that one has grown, then prints what
is new as `(name pid=N) line` to sys.stdout or sys.stderr, whatever these are at that moment, so
notebooks and redirections work. Parts that have been read are cut out of the files, so a long run
does not fill the disk.

A line is shown when it is complete, when its task has ended, or when its writer is dead. Of a line
that is rewritten with carriage returns, a progress bar, the state that a terminal would show at the
end counts; meanwhile it is shown about once a second.

The states of `tqdm` bars come in the same files, see `output`, and go to the `bars`, which are
beneath what is printed.
"""

from __future__ import annotations

import fcntl
import io
import os
import resource
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from plasmid._core import core
from plasmid.runtime import handover
from plasmid.runtime.bars import parse
from plasmid.runtime.board import Bar, board
from plasmid.runtime.output import BAR, LONGEST_MARK, MARK, MARK_END

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

_CHUNK = 1 << 18
_TURN = 4 * _CHUNK  # bytes of one file before the next file has its turn
_LONGEST_LINE = 1 << 16
_ANY_MARK = b"\0plasmid"
_CUT = 1 << 20
_PAGE = 4096
_PIECE = 2000
_FOR_THE_PROGRAM = 16
_UNWATCHED_WAIT = 250  # milliseconds between looks at files for which there is no inotify

_CHECK_SECONDS, _CHECK_WAIT = 0.1, 20  # how long to look for writers, milliseconds between

IN_MODIFY = 0x2
IN_CLOSE_WRITE = 0x8
IN_Q_OVERFLOW = 0x4000
_EVENT = struct.Struct("iIII")


class Follower:
    """Shows the output of a session's processes until `drain`.

    Processes and threads: one per session, in the driver; its only thread is a daemon. `drain` may
    be called by any thread; in a forked child it does nothing. Nobody waits for this thread: a
    driver that is stopped delays its display only. A worker's death closes its files after their
    last line has been shown.
    """

    def __init__(self) -> None:
        self.name = handover.new_name("log")
        self._listener = handover.listen(self.name)
        self._pid = os.getpid()
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._drain = threading.Lock()
        self._stopping = False
        self._patience = 0.0  # when to stop reading what is written while we are stopping
        self._watcher = _Watcher()
        self._links: list[socket.socket] = []  # of processes that are about to send their files
        self._outputs: list[_Output] = []
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._on(self._listener.fileno(), self._meet)
        self._on(self._stop, self._heard_stop)
        if self._watcher.fd >= 0:
            self._on(self._watcher.fd, self._changed)
        self._thread = threading.Thread(target=self._run, name="plasmid-logs", daemon=True)
        self._thread.start()

    def drain(self, timeout: float = 5.0) -> None:
        """Show everything written so far, unfinished lines too, then stop for good. Call it before
        the interpreter finalizes: nothing is printed later. Gives up after `timeout` seconds, if
        sys.stdout is blocked for example."""
        if os.getpid() != self._pid or self._thread is threading.current_thread():
            return
        with self._drain:
            if self._thread.is_alive():
                self._patience = time.monotonic() + timeout
                os.eventfd_write(self._stop, 1)
                self._thread.join(timeout)
            if self._stop >= 0 and not self._thread.is_alive():
                os.close(self._stop)
                self._stop = -1

    # The thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            for fd, _ in self._poll.poll(self._timeout()):
                handler = self._handlers.get(fd)
                if handler:
                    handler()
            self._show_all()
        self._meet()
        for link in list(self._links):
            self._adopt(link)
        for out in self._outputs:
            out.dirty = True
        while any(out.dirty for out in self._outputs) and time.monotonic() < self._patience:
            self._show_all()
        for out in self._outputs:
            self._finish(out)
        self._watcher.close()
        self._listener.close()

    def _heard_stop(self) -> None:
        self._stopping = True

    def _timeout(self) -> int | None:
        if any(out.dirty for out in self._outputs):
            return 0
        if any(out.checking() for out in self._outputs):
            return _CHECK_WAIT
        if any(out.watch < 0 for out in self._outputs):
            return _UNWATCHED_WAIT
        return None

    def _meet(self) -> None:
        """Processes want to send their files."""
        try:
            for link in handover.accept(self._listener):
                self._links.append(link)
                self._on(link.fileno(), partial(self._adopt, link))
        except OSError:  # no descriptor left: listen again when a worker's are free
            self._off(self._listener.fileno())

    def _adopt(self, link: socket.socket) -> None:
        """A process has sent its files, or has died before it could."""
        self._off(link.fileno())
        self._links.remove(link)
        with link:
            try:
                message, fds = handover.receive(link, 2)
            except OSError:
                return
        if not message:
            return
        pid, count, label = message.split(b" ", 2)
        # Descriptors are given out from the lowest number: some are left for the program.
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _FOR_THE_PROGRAM
        if len(fds) != int(count) or max(fds) >= limit:
            for fd in fds:
                os.close(fd)
            lost = f"plasmid: no descriptor is left to show the output of process {int(pid)}\n"
            _show(True, [lost])
            return
        for fd, err in zip(reversed(fds), (True, False), strict=False):
            watch = self._watcher.add(fd)
            self._outputs.append(_Output(fd, int(pid), label.decode(), err, watch))

    def _changed(self) -> None:
        """inotify: files have grown, or a writer has closed one."""
        by_watch = {out.watch: (out,) for out in self._outputs}
        for watch, mask in self._watcher.events():
            for out in self._outputs if mask & IN_Q_OVERFLOW else by_watch.get(watch, ()):
                out.dirty = True
                if mask & (IN_CLOSE_WRITE | IN_Q_OVERFLOW):
                    out.check()

    def _show_all(self) -> None:
        for out in list(self._outputs):
            over = not out.dirty and out.over()  # before the read: then it is the last
            if out.dirty or over or out.watch < 0:
                out.dirty, lines = out.read()
                _show(out.err, lines)
                for bar in out.bars.values():
                    board().show(bar)
                out.bars.clear()
            if over and not out.dirty:
                self._watcher.remove(out.watch)
                self._finish(out)
                self._outputs.remove(out)
                self._on(self._listener.fileno(), self._meet)  # there is a free descriptor

    def _finish(self, out: _Output) -> None:
        """Show what its writer has left undone."""
        _show(out.err, out.finish())
        board().forget(out)
        out.close()

    def _on(self, fd: int, handler: Callable[[], None]) -> None:
        self._handlers[fd] = handler
        self._poll.register(fd, select.POLLIN)

    def _off(self, fd: int) -> None:
        if self._handlers.pop(fd, None):
            self._poll.unregister(fd)


class _Output:
    """One output file of one process, as far as it has been shown."""

    def __init__(self, fd: int, pid: int, label: str, err: bool, watch: int) -> None:
        self.err = err
        self.watch = watch  # inotify's number, -1 = none
        self.dirty = True  # there may be something to read
        self.check()  # its process may be dead already
        self._fd = fd
        self._pid = pid
        self._name = label
        self._offset = self._cut = 0
        self._rest = b""  # of a line that is not complete
        self.bars: dict[object, Bar] = {}  # that have changed, in their latest state
        self._shown_at = 0.0

    def read(self) -> tuple[bool, list[str]]:
        """Lines to show from one turn's worth of bytes, and whether there may be more."""
        lines: list[str] = []
        end = self._offset + _TURN
        while self._offset < end:
            data = os.pread(self._fd, _CHUNK, self._offset)
            if not data:
                break
            self._offset += len(data)
            lines += self.feed(data)
        if self._offset - self._cut >= _CUT:
            self._cut_read()
        return self._offset >= end, lines

    def feed(self, data: bytes) -> list[str]:
        """Split into lines, and follow the marks that name the tasks."""
        *complete, rest = (self._rest + data).split(b"\n")
        shown: list[str] = []
        begun = b""  # of a line that a bar's mark has come into
        for line in complete:
            line, begun = begun + line, b""
            if line.endswith(MARK_END) and BAR in line:
                begun, _, state = line[: -len(MARK_END)].rpartition(BAR)
                self._note_bar(state)
            elif line.endswith(MARK_END) and MARK in line:
                line, _, name = line[: -len(MARK_END)].rpartition(MARK)
                if line:
                    shown.append(self._format(line))
                self._name = name.decode(errors="replace")
            else:
                shown.append(self._format(line))
        self._rest = begun + rest
        now = time.monotonic()
        if b"\r" in self._rest:
            state = self._rest.rstrip(b"\r").rpartition(b"\r")[2]
            self._rest = state + (b"\r" if self._rest.endswith(b"\r") else b"")
            if state and b"\0" not in state and not shown and now - self._shown_at >= 1.0:
                shown.append(self._format(state))
        if len(self._rest) > _LONGEST_LINE:
            mark = self._rest.find(b"\0", -LONGEST_MARK)  # one that is not complete
            text, self._rest = self._rest, b""
            if mark >= 0:
                text, self._rest = text[:mark], text[mark:]
            shown.append(self._format(text))
        if shown:
            self._shown_at = now
        return shown

    def _note_bar(self, state: bytes) -> None:
        bar = parse(state)
        if bar is not None:
            bar.key = (self, *bar.key)
            bar.prefix = self._prefix()
            self.bars[bar.key] = bar

    def finish(self) -> list[str]:
        """The line that will never be completed. A mark that a kill has cut short is none."""
        line, self._rest = self._rest.partition(_ANY_MARK)[0].strip(b"\r"), b""
        return [self._format(line)] if line else []

    def check(self) -> None:
        """Look for a while whether writers are left: the kernel reports a close slightly before it
        counts one writer less."""
        self._check_until = time.monotonic() + _CHECK_SECONDS

    def checking(self) -> bool:
        return time.monotonic() < self._check_until

    def over(self) -> bool:
        """Nobody is left who could write: the process and all that it has forked have closed it.
        The kernel grants a read lease only on a file that nobody has open for writing."""
        if not self.checking() and self.watch >= 0:
            return False
        try:
            fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError:
            return False
        fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        self.check()  # until the rest has been read
        return True

    def close(self) -> None:
        os.close(self._fd)

    def _format(self, line: bytes) -> str:
        text = line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="replace")
        return f"{self._prefix()}{text}\n"

    def _prefix(self) -> str:
        name = f"{self._name} " if self._name else ""
        return f"({name}pid={self._pid}) "

    def _cut_read(self) -> None:
        """Give back the space of what has been read."""
        end = self._offset // _PAGE * _PAGE
        with suppress(OSError):  # not every file system can; the file goes with its last writer
            writable = os.open(f"/proc/self/fd/{self._fd}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                core.punch(writable, self._cut, end - self._cut)
            finally:
                os.close(writable)
        self._cut = end


class _Watcher:
    """An inotify descriptor; without one (fs.inotify.max_user_instances reached) every file counts
    as unwatched."""

    def __init__(self) -> None:
        try:
            self.fd = core.inotify()
        except OSError:
            self.fd = -1

    def add(self, fd: int) -> int:
        """The number of the file's watch, -1 if it cannot be watched."""
        if self.fd < 0 or os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:"):
            return -1  # the kernel reports nothing about a memfd
        try:
            return core.inotify_add(self.fd, f"/proc/self/fd/{fd}", IN_MODIFY | IN_CLOSE_WRITE)
        except OSError:
            return -1

    def remove(self, watch: int) -> None:
        if watch >= 0:
            with suppress(OSError):  # the file went with its last descriptor
                core.inotify_remove(self.fd, watch)

    def events(self) -> Iterator[tuple[int, int]]:
        """(watch, mask) of everything reported."""
        try:
            data = os.read(self.fd, 1 << 16)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size + length
            yield watch, mask

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


def _show(err: bool, lines: list[str]) -> None:
    """Print. A closed pipe, a full disk, a replaced stream that raises: the driver's program must
    not notice."""
    stream = sys.stderr if err else sys.stdout
    if not lines or stream is None or sys.is_finalizing():
        return
    with board().aside(stream):
        _write_all(stream, "".join(lines))


def _write_all(stream: TextIO, text: str) -> None:
    # CPython forgets the rest of a write that is longer than a file's buffer (8 KB) if a stop
    # (Ctrl-Z) interrupts it at a full pipe. A piece fits in, whatever its characters.
    step = _PIECE if isinstance(stream, io.TextIOWrapper) else len(text)
    with suppress(Exception):
        for start in range(0, len(text), step):
            _write(stream, text[start : start + step])


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()
