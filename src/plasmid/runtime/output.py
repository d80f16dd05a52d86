"""Where the output of keeper, nursery and workers goes: nameless files that the driver follows.

Writing to a file never waits for the driver, stopped or not, and a file is there after its writer's
death: the last words of a crashing worker are kept. The files have no name (O_TMPFILE), so nothing
is left when the last process is gone. The driver gets each of them over its log socket (see
`logs`).

Whose line is it? A worker's stdout and stderr announce a task in the stream itself, when it begins
and is not of the same name as the one before, by a *mark*: NUL "plasmid:" name NUL newline. A mark
also ends a line that a task left unfinished. What C code or a child process writes on the
descriptors carries the name announced last, too.

The state of a progress bar is another mark, NUL "plasmid bar:" JSON NUL newline, which is no part
of the text: a line that it falls into goes on behind it.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any, ClassVar, TextIO

from plasmid.runtime import handover

MARK = b"\0plasmid:"
BAR = b"\0plasmid bar:"
MARK_END = b"\0"

LONGEST_MARK = 4096
"""Bytes, at most."""

_DROPPED = (OSError, ValueError)
"""What a file raises that cannot be written, and one that was closed."""

_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")


def open_file() -> int:
    """A fresh nameless file, opened for appending, in the first folder that can hold one; else in
    memory."""
    chosen = [os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")]
    flags = os.O_TMPFILE | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
    for folder in (*filter(None, chosen), *_FOLDERS):
        try:
            return os.open(folder, flags, 0o600)
        except OSError:
            continue
    fd = os.memfd_create("plasmid output")
    return _reopen(fd, os.O_WRONLY | os.O_APPEND, close=True)


def tell_driver(log_name: str, label: str, pid: int, fds: list[int]) -> None:
    """Ask the driver to follow the files `fds` (stderr, or stdout and stderr) of process `pid`.

    The driver gets descriptors of its own that can only read: so its log thread sees when the last
    writer has closed. Never blocks. If it cannot be told, its output is not shown; nothing else
    changes.
    """
    copies: list[int] = []
    try:
        copies += [_reopen(fd, os.O_RDONLY) for fd in fds]
        with handover.connect(log_name) as link:
            handover.send(link, b"%d %d %s" % (pid, len(copies), label.encode()), copies)
    except OSError:
        pass
    finally:
        for fd in copies:
            os.close(fd)


def redirect(log_name: str) -> None:
    """Send this worker's stdout and stderr, descriptors 1 and 2, to the driver; to nowhere if
    `log_name` is empty.

    Nowhere, because a file that nobody follows is never cut and would fill the disk.
    """
    files = [open_file() if log_name else os.open(os.devnull, os.O_WRONLY) for _ in range(2)]
    for target, fd in enumerate(files, start=1):
        os.dup2(fd, target)
        os.close(fd)
    _Marks.used, _Marks.file = True, None
    if log_name:
        tell_driver(log_name, "", os.getpid(), [1, 2])
        _Marks.file = _identity(1)
    _replace_streams()


class _Marks:
    """`used`: whether this process is a worker, or a fork of one. `file`: that of its stdout, if
    the driver follows it."""

    used = False
    file: tuple[int, int] | None = None


def is_worker() -> bool:
    """Whether what is written here is shown by another process, if at all."""
    return _Marks.used


def write_bar(state: bytes) -> None:
    """Tell the driver about a progress bar, in less than LONGEST_MARK bytes without NUL or newline.

    In one write, so that nothing comes in between. Not through sys.stdout, which the task may have
    replaced; and not on descriptor 1 if another file is there now: marks would spoil it.
    """
    if _Marks.file is not None:
        with suppress(OSError):
            if _identity(1) == _Marks.file:
                os.write(1, BAR + state + MARK_END + b"\n")


def _identity(fd: int) -> tuple[int, int]:
    file = os.fstat(fd)
    return file.st_dev, file.st_ino


class TaskStream(io.TextIOWrapper):
    """sys.stdout or sys.stderr of a worker: every line reaches the file at once, under its task's
    name.

    Output that cannot be written, on a full disk or after close() say, is dropped: it must not fail
    the task.

    Processes and threads: any thread may write, as to any text file; a forked child writes on under
    the same name.
    """

    task = ""
    """Name of the running task, shared by both streams; set by `begin_task`."""
    has_unfinished = False
    """Whether one of them may have written a line that has no end yet, since `finish_lines`."""

    def __init__(self, fd: int) -> None:
        raw = io.FileIO(fd, "w", closefd=False)
        super().__init__(
            io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True
        )
        self.announced = ""
        """The name that stands in the file last."""
        self.is_unfinished = False
        """Whether the line that was written last has no end yet."""

    @property
    def is_usable(self) -> bool:
        """Whether nobody has closed or detached it."""
        try:
            return not self.closed
        except ValueError:
            return False

    def write(self, text: str, /) -> int:
        if text:
            if self.announced != TaskStream.task:
                self.announce()
            if text[-1] != "\n":
                self.is_unfinished = TaskStream.has_unfinished = True
            else:
                self.is_unfinished = False
        try:
            return super().write(text)
        except _DROPPED:
            return len(text)

    def flush(self) -> None:
        with suppress(*_DROPPED):
            super().flush()

    def announce(self) -> None:
        """Write the mark of the present task."""
        self.announced = TaskStream.task
        self.is_unfinished = False
        name = " ".join(self.announced.replace("\0", " ").splitlines())
        with suppress(*_DROPPED):
            super().write(f"{MARK.decode()}{name}{MARK_END.decode()}\n")


class _Stack:
    """`below`: the streams of the tasks that the present one runs on top of. `is_over`: whether the
    task that began last has ended."""

    below: ClassVar[list[tuple[TextIO, TextIO]]] = []
    is_over = True


def begin_task(name: str) -> None:
    """What follows is output of task `name`: one that begins, perhaps on top of another, or the one
    below a task that has just ended, which goes on.

    A task that begins finds working streams, whatever others have put in their place; one that goes
    on finds those that it had.
    """
    TaskStream.task = name
    if _Stack.is_over and _Stack.below:
        sys.stdout, sys.stderr = _Stack.below.pop()
    else:
        if not _Stack.is_over:
            _Stack.below.append((sys.stdout, sys.stderr))
        _replace_streams()
    _Stack.is_over = False
    # At once, not with the first line: C code and child processes write past these streams.
    for stream in (sys.stdout, sys.stderr):
        if type(stream) is TaskStream and stream.announced != name:
            stream.announce()


def end_task() -> None:
    """The running task is over: what it wrote is complete."""
    _Stack.is_over = True
    finish_lines()


def finish_lines() -> None:
    """Let the driver show lines that have no end yet."""
    if not TaskStream.has_unfinished:
        return
    TaskStream.has_unfinished = False
    for stream in (sys.__stdout__, sys.__stderr__):  # a task may have put others in their place
        if type(stream) is TaskStream and stream.is_unfinished:
            stream.announce()


def _replace_streams() -> None:
    """Make sys.stdout and sys.stderr the worker's own again; new ones if these are of no use."""
    if _is_own(sys.stdout, sys.__stdout__) and _is_own(sys.stderr, sys.__stderr__):
        return
    for fd, name in enumerate(("stdout", "stderr"), start=1):
        own = getattr(sys, f"__{name}__")
        setattr(sys, name, own)  # first: what was there may close the buffer that both write to
        if type(own) is not TaskStream or not own.is_usable:
            made = TaskStream(fd)
            setattr(sys, name, made)
            setattr(sys, f"__{name}__", made)


def _is_own(stream: Any, own: Any) -> bool:
    return stream is own and type(own) is TaskStream and own.is_usable


def _reopen(fd: int, flags: int, *, close: bool = False) -> int:
    """An open file description of its own for the file behind fd."""
    try:
        return os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC)
    finally:
        if close:
            os.close(fd)
