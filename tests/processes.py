"""What tests that kill and stop processes share: the session's processes, meeting points, drivers.

Nothing here sleeps to let something happen: tests wait for events (a line, a byte in a pipe), and
where the kernel offers none, look at a condition until it is true. A watchdog ends what hangs.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

MARK = "PLASMID_TEST_MARK"
"""Environment variable by which the processes of one test are told from all others."""

WATCHDOG = 60.0


def until(true: Callable[[], Any], what: str | Callable[[], str], seconds: float = WATCHDOG) -> Any:
    """Look until `true()` is, and return what it returned."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not after {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.002)
    return found


# Processes ---------------------------------------------------------------------------------------


def stat(pid: int) -> list[str]:
    """Fields of /proc/pid/stat from the state on; empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def is_alive(pid: int) -> bool:
    """Neither gone nor a zombie."""
    fields = stat(pid)
    return bool(fields) and fields[0] not in "ZX"


def is_stopped(pid: int) -> bool:
    return stat(pid)[:1] == ["T"]


def command(pid: int) -> str:
    """The name that ps shows; "" if there is no such process."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def marked(mark: str) -> list[int]:
    """Every living process that was started with this mark in its environment; not this one."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted in variables and pid != os.getpid():
            found.append(pid)
    return found


def kill(pid: int, sign: int = signal.SIGKILL) -> None:
    """Send a signal to a process that may be gone already."""
    with suppress(ProcessLookupError):
        os.kill(pid, sign)


def new_mark() -> str:
    return uuid.uuid4().hex


def sockets(name: str) -> int:
    """How many abstract Unix sockets, connections included, bear this name."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    return sum(line.endswith(f"@{name}") for line in lines)


class Processes:
    """The processes of the session whose driver is this process."""

    def __init__(self) -> None:
        from plasmid.engine import current

        self.engine: Any = current.engine
        self.arena = self.engine._arena

    @property
    def keeper(self) -> int:
        """The keeper's pid; of the present one or the last."""
        return int(self.engine._session._guard.pid)

    def nursery(self) -> int:
        """The nursery's pid, also of one that has only just been started; 0 if there is none."""
        try:
            path = Path(f"/proc/{self.keeper}/task/{self.keeper}/children")
            children = sorted(map(int, path.read_text().split()), key=_started)
        except OSError:
            return 0
        for pid in children:  # the oldest: workers are its forks
            if command(pid) != "plasmid-worker" and is_alive(pid) and _has_started(pid):
                return pid
        return 0

    def workers(self) -> list[int]:
        """Pids of the living workers that take part."""
        from plasmid._core import core

        clients = self.arena.clients()
        return [c.pid for c in clients if c.kind == core.WORKER and is_alive(c.pid)]

    def await_new_keeper(self, old: int) -> int:
        """The pid of a keeper that has taken part since."""
        from plasmid._core import core

        def new() -> int:
            clients = self.arena.clients()
            pids = [c.pid for c in clients if c.kind == core.KEEPER and is_alive(c.pid)]
            return next((pid for pid in pids if pid != old), 0)

        return int(until(new, f"a keeper in place of {old}"))

    def await_new_nursery(self, old: int) -> int:
        return int(until(lambda: self.nursery() != old and self.nursery(), "a new nursery"))

    def await_workers(self, count: int = 0) -> list[int]:
        """Pids of at least so many workers, num_cpus if not said."""
        count = count or int(self.arena.cpu_total)
        return list(until(lambda: len(found := self.workers()) >= count and found, "all workers"))


def _started(pid: int) -> int:
    fields = stat(pid)
    return int(fields[19]) if fields else 0


def _has_started(pid: int) -> bool:
    """Whether it is a nursery's program: no fork of one that is still to become a worker, nor of
    the keeper that is still to become a nursery."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    fields = stat(pid)
    has_executed = bool(fields) and not int(fields[6]) & _PF_FORKNOEXEC
    named = (word.startswith(b"import sys; ") and b"nursery" in word for word in words)
    return has_executed and any(named) and not any(b"keeper" in word for word in words)


_PF_FORKNOEXEC = 0x40
"""Flag in /proc/pid/stat of a process that has been forked and has not executed a program since."""


# Meeting points ----------------------------------------------------------------------------------


class Meeting:
    """Where the test and its tasks wait for each other: two named pipes. Tasks get it as an
    argument.

    A task calls arrive() or stay(); the test calls next() for each that has arrived, and release().
    """

    def __init__(self, folder: Path) -> None:
        name = uuid.uuid4().hex
        self._arrived = str(folder / f"{name}.arrived")
        self._leave = str(folder / f"{name}.leave")
        os.mkfifo(self._arrived)
        os.mkfifo(self._leave)
        # Open for both, so that nobody waits at open() and what was written stays.
        self._ends = [os.open(path, os.O_RDWR) for path in (self._arrived, self._leave)]

    def __reduce__(self) -> tuple[Any, ...]:
        return _Guest, (self._arrived, self._leave)

    def next(self, seconds: float = WATCHDOG) -> int:
        """The pid of the next process that has arrived."""
        ready, _, _ = select.select([self._ends[0]], [], [], seconds)
        assert ready, f"nobody has arrived for {seconds} s"
        return int(os.read(self._ends[0], 8))

    def nobody(self) -> bool:
        """Whether nobody else has arrived."""
        return not select.select([self._ends[0]], [], [], 0)[0]

    def release(self, count: int = 1) -> None:
        """Let so many of those that stay, now or later, go."""
        os.write(self._ends[1], b"." * count)

    def close(self) -> None:
        for fd in self._ends:
            os.close(fd)


class _Guest:
    """A Meeting in a task."""

    def __init__(self, arrived: str, leave: str) -> None:
        self._arrived = arrived
        self._leave = leave

    def __reduce__(self) -> tuple[Any, ...]:
        return _Guest, (self._arrived, self._leave)

    def arrive(self) -> int:
        pid = os.getpid()
        with open(self._arrived, "wb", buffering=0) as pipe:
            pipe.write(b"%8d" % pid)
        return pid

    def stay(self) -> int:
        """Arrive, and wait until the test says so."""
        pid = self.arrive()
        with open(self._leave, "rb", buffering=0) as pipe:
            pipe.read(1)
        return pid


# Programs ----------------------------------------------------------------------------------------

PRELUDE = """
import os, signal, subprocess, sys, threading, time
import plasmid

def say(*words):  # in one piece: the log thread prints beside it
    sys.stdout.write(" ".join(map(str, words)) + "\\n")
    sys.stdout.flush()

def everything():
    from plasmid.engine import current
    current.engine._arena.check()
    session = current.engine._session
    boot = __import__("pickle").loads(current.engine._arena.boot())
    say("session", session.name, boot["log_name"])

@plasmid.remote
def square(x):
    return x * x
"""


class Program:
    """A Python program in a process of its own, usually a driver.

    Its output is read line by line; `gone()` waits until it and all that it has started are gone,
    and proves that nothing else is left either.
    """

    def __init__(self, code: str, *, prefix: list[str] | None = None, **options: Any) -> None:
        self.mark = new_mark()
        env = {**(options.pop("env", None) or os.environ), MARK: self.mark}
        arguments = options.pop("arguments", None) or [
            sys.executable,
            "-c",
            PRELUDE + textwrap.dedent(code),
        ]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        self.names: list[str] = []
        self.shm = _shared_names()
        self.process = subprocess.Popen(
            [*(prefix or []), *arguments], text=True, env=env, **options
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self) -> str:
        """The next line it prints. A line "session ..." is kept for gone()."""
        assert self.process.stdout
        text = self.process.stdout.readline()
        if not text:
            _, err = self.process.communicate(timeout=WATCHDOG)
            raise AssertionError(f"the program has ended: {self.process.returncode}\n{err}")
        return self.line() if self._is_about_session(text) else text.rstrip("\n")

    def end(self, status: int = 0) -> str:
        """Its remaining output, once it has ended with this status and everything is gone."""
        try:
            out, self.err = self.process.communicate(timeout=WATCHDOG)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        assert self.process.returncode == status, f"{self.process.returncode}\n{out}\n{self.err}"
        self.gone()
        lines = (out or "").splitlines(keepends=True)
        return "".join(line for line in lines if not self._is_about_session(line))

    def _is_about_session(self, line: str) -> bool:
        first, *names = line.split() or [""]
        if first == "session":
            self.names += names
        return first == "session"

    def gone(self) -> None:
        until(lambda: not marked(self.mark), lambda: f"all gone, but {self._left()}", 30)
        # Descriptors are closed a moment after the memory that tells the mark is gone.
        until(lambda: not any(map(sockets, self.names)), "no socket is left")
        assert _shared_names() <= self.shm

    def _left(self) -> str:
        return ", ".join(f"{pid} {command(pid)} {stat(pid)[:2]}" for pid in marked(self.mark))


def run(code: str, **options: Any) -> str:
    """The stdout of a program that ends well and leaves nothing."""
    return Program(code, **options).end()


def _shared_names() -> set[str]:
    """What stands in /dev/shm, without the semaphores of other programs' multiprocessing."""
    return {name for name in os.listdir("/dev/shm") if not name.startswith(("sem.", "psm_"))}
