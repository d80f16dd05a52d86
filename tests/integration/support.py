"""What the tests of this folder share; workers import it, too, so it imports little."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plasmid.engine import current

STORE = 64 << 20

OWNER = "PLASMID_TEST_OWNER"
"""In the environment of all processes that these tests start: the pid of the test run."""


def until(condition: Callable[[], object], what: str | Callable[[], str] = "") -> None:
    """Return when the condition holds. For what no event tells; the test's time limit ends it."""
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError((what() if callable(what) else what) or "it never came true")
        time.sleep(0.002)


def sleeps(thread: threading.Thread) -> bool:
    """In a futex call, as all ways to wait for an object are."""
    try:
        return Path(f"/proc/self/task/{thread.native_id}/syscall").read_text().startswith("202 ")
    except OSError:
        return False


def arena() -> Any:
    """That of the present session."""
    return current.engine._arena  # type: ignore[attr-defined]


class Gate:
    """A door that the test opens, and that tasks wait at. Pickled by its path."""

    def __init__(self, folder: Path, name: str = "gate") -> None:
        self.path = str(folder / name)
        self._held = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        fcntl.flock(self._held, fcntl.LOCK_EX)

    def __getstate__(self) -> dict[str, str]:
        return {"path": self.path}

    def wait(self) -> None:
        """In a task: say that it is here, and wait until the gate is open."""
        fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(fd, b".")
            fcntl.flock(fd, fcntl.LOCK_SH)
        finally:
            os.close(fd)

    def arrived(self) -> int:
        return os.stat(self.path).st_size

    def await_arrivals(self, number: int) -> None:
        until(lambda: self.arrived() >= number, f"{self.arrived()} of {number} tasks came")

    def open(self) -> None:
        if self._held >= 0:
            os.close(self._held)
            self._held = -1


def run_program(code: str, *args: str, status: int = 0, **options: object) -> tuple[str, str]:
    """stdout and stderr of a program of its own, once it has ended with that status."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *args],
        capture_output=True,
        text=True,
        timeout=60,
        **options,  # type: ignore[call-overload]
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout, done.stderr


# What a session must not leave behind ------------------------------------------------------------


def descriptors() -> dict[int, str]:
    """Where each leads, without the standard streams, which pytest replaces."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2:
                found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the one that listed them
            continue
    return found


def threads() -> set[str]:
    """Python's threads, and those of the C core."""
    found = {repr(thread.name) for thread in threading.enumerate()}
    for task in Path("/proc/self/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
        except OSError:
            continue
        if name.startswith("plasmid"):
            found.add(name)
    return found


def processes() -> set[str]:
    """Processes that this test run has started, directly or not, without zombies of others."""
    mine, found = f"{OWNER}={os.getpid()}\0".encode(), set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(pid) == os.getpid() or mine not in Path(f"/proc/{pid}/environ").read_bytes():
                continue
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")[:200]
        except OSError:
            continue
        found.add(f"{pid} {command.decode(errors='replace')}")
    for task in os.listdir("/proc/self/task"):
        try:
            found.update(Path(f"/proc/self/task/{task}/children").read_text().split())
        except OSError:
            continue
    return found


def mappings() -> list[str]:
    return [
        line for line in Path("/proc/self/maps").read_text().splitlines() if "plasmid (" in line
    ]


def files() -> set[str]:
    """In the folder for temporary files, which these tests have for themselves, and in /dev/shm,
    which they share with others. Not those that multiprocessing would remove at an orderly exit:
    workers are killed."""
    made = {name for name in os.listdir(os.environ["TMPDIR"]) if not name.startswith("pymp-")}
    return made | {name for name in os.listdir("/dev/shm") if "plasmid" in name.lower()}


@contextmanager
def nothing_left(unless: Callable[[], bool]) -> Iterator[None]:
    """No process, thread, descriptor, shared memory or file more after the block than before;
    `unless` a test has failed, whose variables are kept for the report."""
    before = descriptors(), threads(), processes(), files(), mappings()
    yield
    if unless():
        return
    fds, running, started, made, mapped = before
    left = {fd: to for fd, to in descriptors().items() if fds.get(fd) != to}
    assert not left, f"descriptors are left: {left}"
    assert threads() <= running, "threads are left"
    until(lambda: processes() <= started, f"processes are left: {processes() - started}")
    assert files() <= made, "files are left"
    assert mappings() == mapped, "shared memory is still mapped"


def backed() -> int:
    """Bytes of memory that the arena has."""
    for entry in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{entry}").startswith("/memfd:plasmid"):
                return os.fstat(int(entry)).st_blocks * 512
        except OSError:
            continue
    raise AssertionError("there is no arena")
