"""Looking into workers: `plasmid stack`, and `breakpoint()` on the driver's terminal."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import Gate, arena, run_program, until

import plasmid
from plasmid import sessions
from plasmid.runtime import stacks

pytestmark = pytest.mark.usefixtures("session")


def address() -> str:
    return str(plasmid.engine.current.get_engine().address_info()["address"])


def workers() -> list[int]:
    from plasmid._core import core

    return [client.pid for client in arena().clients() if client.kind == core.WORKER]


def test_the_stacks_of_all_workers_name_what_they_are_in(gate: Gate) -> None:
    @plasmid.remote
    def a_function_that_waits() -> int:
        gate.wait()
        return os.getpid()

    ref = a_function_that_waits.remote()
    gate.await_arrivals(1)
    text = sessions.stacks(address(), 30)
    assert text.count("worker ") >= 1
    assert "in a_function_that_waits" in text
    gate.open()
    assert f"worker {plasmid.get(ref)}" in text


def test_a_worker_that_is_stuck_in_c_answers(tmp_path: Path) -> None:
    """It is in a loop of the interpreter's own C code, which holds the lock and sees no signals."""

    @plasmid.remote(max_retries=0)
    def stuck(path: str) -> None:
        from collections import deque
        from itertools import repeat

        Path(path).write_text(str(os.getpid()))
        deque(repeat(None), maxlen=0)

    path = tmp_path / "stuck"
    ref = stuck.remote(str(path))
    until(lambda: path.exists() and path.read_text(), "the task is in its call")
    pid = int(path.read_text())
    text = stacks.read([pid], 30)[pid]
    assert "in stuck" in text
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(plasmid.exceptions.WorkerCrashedError):
        plasmid.get(ref)


def test_a_stopped_worker_is_told_of_and_goes_on(gate: Gate) -> None:
    @plasmid.remote
    def wait() -> int:
        gate.wait()
        return os.getpid()

    ref = wait.remote()
    gate.await_arrivals(1)
    [pid] = [pid for pid in workers() if "in wait" in stacks.read([pid], 30)[pid]]
    os.kill(pid, signal.SIGSTOP)
    assert "no answer" in stacks.read([pid], 0.2)[pid]
    os.kill(pid, signal.SIGCONT)
    gate.open()
    assert plasmid.get(ref) == pid


def test_what_is_no_worker_is_told_of() -> None:
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    ended.wait()
    found = stacks.read([ended.pid, os.getpid()], 5)
    assert all("cannot be asked" in text for text in found.values())


def test_the_command_prints_them(gate: Gate) -> None:
    @plasmid.remote
    def in_the_command() -> None:
        gate.wait()

    ref = in_the_command.remote()
    gate.await_arrivals(1)
    done = subprocess.run(
        [sys.executable, "-m", "plasmid", "stack", "--address", address()],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "in in_the_command" in done.stdout
    gate.open()
    plasmid.get(ref)


DEBUGGED = """
import plasmid

plasmid.init(num_cpus=2, object_store_memory=4 << 20)

@plasmid.remote
def add(x):
    answer = x + 1
    breakpoint()
    return answer

print("results", plasmid.get([add.remote(x) for x in {numbers}]))
plasmid.shutdown()
"""


class Terminal:
    """The other end of a program's terminal."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.text = ""

    def expect(self, words: str, seconds: float = 60) -> None:
        """Read until `words` come, and forget all before."""
        until = time.monotonic() + seconds
        while words not in self.text:
            assert time.monotonic() < until, f"no {words!r} in {self.text!r}"
            self.text += os.read(self._fd, 4096).decode().replace("\r\n", "\n")
        self.text = self.text.partition(words)[2]

    def type(self, line: str) -> None:
        os.write(self._fd, line.encode() + b"\n")


@contextmanager
def debugged(numbers: str) -> Iterator[tuple[Terminal, subprocess.Popen[str]]]:
    ours, theirs = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-c", DEBUGGED.format(numbers=numbers)],
        stdin=theirs,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Terminal(ours), program
    finally:
        program.kill()
        program.wait()
        os.close(ours)
        os.close(theirs)


def test_a_breakpoint_reaches_the_terminal_of_the_driver() -> None:
    with debugged("[41]") as (terminal, program):
        terminal.expect("(Pdb ")
        terminal.type("p answer * 10")
        terminal.expect("420")
        terminal.type("answer = 7")
        terminal.expect("(Pdb ")
        terminal.type("continue")
        assert program.communicate(timeout=60)[0] == "results [7]\n"


def test_one_task_at_a_time_has_the_terminal() -> None:
    with debugged("[1, 2]") as (terminal, program):
        for _ in range(2):
            terminal.expect("(Pdb ")
            terminal.type("p x")
            terminal.expect("\n")
            assert terminal.text[:1] in ("", "1", "2")
            terminal.expect("(Pdb ")
            terminal.type("continue")
        assert program.communicate(timeout=60)[0] == "results [2, 3]\n"


def test_without_a_terminal_a_breakpoint_says_so_and_the_task_goes_on() -> None:
    out, err = run_program(DEBUGGED.format(numbers="[41]"))
    assert out == "results [42]\n"
    assert "breakpoint() at" in err
    assert "no terminal" in err


def test_pythonbreakpoint_counts_first() -> None:
    code = "import os; os.environ['PYTHONBREAKPOINT'] = '0'\n" + DEBUGGED.format(numbers="[41]")
    assert run_program(code) == ("results [42]\n", "")
