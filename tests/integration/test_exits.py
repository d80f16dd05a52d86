"""Every way in which a task can end its worker or seem to: a named error, and so many runs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import plasmid
from plasmid.exceptions import RayTaskError, TaskCancelledError, WorkerCrashedError

pytestmark = pytest.mark.usefixtures("session")


class Deadly:
    """Ends the process that pickles or unpickles it in a task."""

    def __init__(self, end: Callable[[], Any], trace: Path, *, going: bool) -> None:
        self.state = end, trace, going

    def __reduce__(self) -> Any:
        end, trace, going = self.state
        if going:
            run(end, trace)
        return run, (end, trace)


def run(end: Callable[[], Any], trace: Path) -> Any:
    with open(trace, "a") as file:
        file.write(".")
    return end()


def overflow() -> int:
    return overflow() + 1


def exhaust() -> None:
    raise MemoryError("no more")


def interrupt() -> None:
    raise KeyboardInterrupt("mine")


def kill(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


DIED = r"end\(\): worker process \d+ "

# how it ends, class, text, runs with one retry, exit code, signal
ENDS: dict[str, tuple[Callable[[], Any], type[Exception], str, int, int | None, int | None]] = {
    "sys.exit(0)": (lambda: sys.exit(0), WorkerCrashedError, "SystemExit: 0", 2, None, None),
    "sys.exit(3)": (lambda: sys.exit(3), WorkerCrashedError, "SystemExit: 3", 2, None, None),
    "sys.exit(text)": (
        lambda: sys.exit("bye"),
        WorkerCrashedError,
        "SystemExit: bye",
        2,
        None,
        None,
    ),
    "KeyboardInterrupt": (interrupt, TaskCancelledError, "KeyboardInterrupt: mine", 1, None, None),
    "RecursionError": (overflow, RecursionError, "maximum recursion depth", 1, None, None),
    "MemoryError": (exhaust, MemoryError, "no more", 1, None, None),
    "os._exit(0)": (
        lambda: os._exit(0),
        WorkerCrashedError,
        DIED + "exited with code 0",
        2,
        0,
        None,
    ),
    "os._exit(3)": (
        lambda: os._exit(3),
        WorkerCrashedError,
        DIED + "exited with code 3",
        2,
        3,
        None,
    ),
    "abort": (os.abort, WorkerCrashedError, DIED + "was killed by signal 6 .SIGABRT", 2, None, 6),
    "segfault": (
        kill(signal.SIGSEGV),
        WorkerCrashedError,
        DIED + "was killed by signal 11 .SIGSEGV",
        2,
        None,
        11,
    ),
    "kill -9": (
        kill(signal.SIGKILL),
        WorkerCrashedError,
        DIED + "was killed by signal 9 .SIGKILL",
        2,
        None,
        9,
    ),
    "kill": (
        kill(signal.SIGTERM),
        WorkerCrashedError,
        DIED + "was killed by signal 15 .SIGTERM",
        2,
        None,
        15,
    ),
}


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("where", ["in the task", "unpacking", "packing"])
def test_every_end_has_a_name_and_its_retries(name: str, where: str, tmp_path: Path) -> None:
    how, kind, text, runs, code, number = ENDS[name]
    if where == "packing" and kind in (RecursionError, MemoryError):
        kind = TypeError  # of the value: it says what in it could not be pickled, and why
        text = "result of end.*(nested too deeply|no more)"
    trace = tmp_path / "runs"

    @plasmid.remote(max_retries=1, name="end")
    def end(argument: Any) -> Any:
        if where == "in the task":
            run(how, trace)
        return Deadly(how, trace, going=True) if where == "packing" else argument

    argument = Deadly(how, trace, going=False) if where == "unpacking" else None
    with pytest.raises(kind, match=text) as caught:
        plasmid.get(end.remote(argument))
    if kind is not TypeError:  # looking for the culprit pickles it again
        assert trace.stat().st_size == runs
    if code is not None or number is not None:
        assert isinstance(caught.value, WorkerCrashedError)
        assert (caught.value.exit_code, caught.value.signal) == (code, number)
    else:
        assert isinstance(caught.value, RayTaskError)
    assert plasmid.get(plasmid.remote(lambda: 1).remote()) == 1  # the session is well
