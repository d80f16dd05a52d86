"""Who is tied to a lifeline dies when it is cut."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from plasmid.runtime import lifeline
from plasmid.runtime.lifeline import Lifeline


def child(read_end: int) -> int:
    """A process that ties itself and then stops."""
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        lifeline.tie_myself(read_end)
        os.write(tell, b"x")
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.close(tell)
    os.read(ready, 1)
    os.close(ready)
    return pid


def cause(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_a_stopped_process_is_killed() -> None:
    line = Lifeline()
    pid = child(line.read_end)
    os.waitid(os.P_PID, pid, os.WSTOPPED)
    line.cut()
    assert cause(pid) == -signal.SIGKILL


def test_many_can_be_tied_to_one_line() -> None:
    line = Lifeline()
    pids = [child(line.read_end) for _ in range(3)]
    line.cut()
    assert [cause(pid) for pid in pids] == [-signal.SIGKILL] * 3


def test_a_line_that_was_cut_before_kills_at_once() -> None:
    read_end, write_end = os.pipe()
    os.close(write_end)
    pid = os.fork()
    if pid == 0:
        lifeline.tie_myself(read_end)
        os._exit(0)
    assert cause(pid) == -signal.SIGKILL
    os.close(read_end)


def test_a_process_that_runs_none_of_our_code_is_killed() -> None:
    read_end, write_end = os.pipe()
    os.set_inheritable(read_end, True)
    process = subprocess.Popen(["sleep", "100"], pass_fds=[read_end])
    lifeline.tie(read_end, process.pid)
    os.close(read_end)
    os.close(write_end)
    assert process.wait() == -signal.SIGKILL


def test_a_fork_of_the_driver_keeps_nobody_alive() -> None:
    """The fork inherits the write end; if it kept it, workers would outlive the driver."""
    report, into = os.pipe()
    driver = os.fork()
    if driver == 0:
        line = Lifeline()
        tied = child(line.read_end)
        sleeper = os.fork()
        if sleeper == 0:
            time.sleep(100)
        os.write(into, f"{tied} {sleeper}".encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(into)
    assert cause(driver) == -signal.SIGKILL
    tied, sleeper = map(int, os.read(report, 100).split())
    pidfd = os.pidfd_open(sleeper)
    while not gone(tied):
        time.sleep(0.005)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)
    os.close(report)


def test_a_line_may_be_cut_twice() -> None:
    line = Lifeline()
    line.cut()
    line.cut()
