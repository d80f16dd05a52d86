"""The driver ends, one way or another: within a moment nothing of its session is left on the
machine.

`Program.gone()` looks for processes, sockets and shared memory.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from processes import Program, is_stopped, kill, marked, until

BUSY = """
plasmid.init(num_cpus=2)
everything()

@plasmid.remote
def work(n):
    say("working")
    while True:
        plasmid.get(plasmid.put(bytes(n)))

@plasmid.remote
def nested(n):
    return plasmid.get(work.remote(n))

from plasmid.engine import current
arena = current.engine._arena
while arena.stats()["workers"] < 2:
    time.sleep(0.001)
"""

IDLE = BUSY + "plasmid.get([square.remote(x) for x in range(10)])\n"
WORKING = BUSY + "refs = [work.remote(1000), nested.remote(1_000_000)]\n"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of programs, for which must be proven that it is empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def assert_nothing_left(program: Program, temporary: Path) -> None:
    program.gone()
    assert program.names, "the program told the names of its sockets"
    assert list(temporary.iterdir()) == []


# Killed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [IDLE, WORKING], ids=["idle", "working"])
def test_killed(temporary: Path, state: str) -> None:
    program = Program(state + "say('ready')\nsignal.pause()")
    while program.line() != "ready":
        pass
    kill(program.pid)
    began = time.monotonic()
    assert program.process.wait() == -signal.SIGKILL
    assert_nothing_left(program, temporary)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("who", ["keeper", "nursery", "worker"])
def test_killed_after_another(temporary: Path, who: str, sign: int) -> None:
    """A stopped process cannot see to its own end, and a dead keeper not to that of others."""
    program = Program(WORKING + "say('ready')\nsignal.pause()")
    while program.line() != "ready":
        pass
    victims = [pid for pid in marked(program.mark) if _command(pid) == f"plasmid-{who}"]
    assert victims
    for pid in victims:
        kill(pid, sign)
    kill(program.pid)
    program.process.wait()
    assert_nothing_left(program, temporary)


@pytest.mark.parametrize("driver", ["first", "last"])
def test_all_killed_at_once(temporary: Path, driver: str) -> None:
    program = Program(WORKING + "say('ready')\nsignal.pause()")
    while program.line() != "ready":
        pass
    others = [pid for pid in marked(program.mark) if pid != program.pid]
    for pid in [program.pid, *others] if driver == "first" else [*others, program.pid]:
        kill(pid)
    program.process.wait()
    assert_nothing_left(program, temporary)


def test_all_stopped_and_the_driver_killed(temporary: Path) -> None:
    program = Program(WORKING + "say('ready')\nsignal.pause()")
    while program.line() != "ready":
        pass
    for pid in [program.pid, *marked(program.mark)]:
        kill(pid, signal.SIGSTOP)
    kill(program.pid)
    program.process.wait()
    assert_nothing_left(program, temporary)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


@pytest.mark.parametrize("step", range(12))
def test_killed_while_it_starts(temporary: Path, step: int) -> None:
    """At twelve moments: when one more process of the session exists, or a little later."""
    program = Program(
        "say('go')\nplasmid.init(num_cpus=4)\nplasmid.get(square.remote(1))\nsignal.pause()"
    )
    assert program.line() == "go"
    until(lambda: len(marked(program.mark)) > step // 3, "as many processes")
    time.sleep(0.004 * (step % 3))
    kill(program.pid)
    program.process.wait()
    program.gone()
    assert list(temporary.iterdir()) == []


def test_killed_by_one_of_its_tasks(temporary: Path) -> None:
    program = Program(
        "driver = os.getpid()\n"
        + IDLE
        + "plasmid.get(plasmid.remote(lambda: os.kill(driver, 9)).remote())"
    )
    program.end(-signal.SIGKILL)
    assert_nothing_left(program, temporary)


# Ended by itself ---------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [IDLE, WORKING], ids=["idle", "working"])
@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("pass", 0),
        ("plasmid.shutdown()", 0),
        ("sys.exit(3)", 3),
        ("raise RuntimeError('x')", 1),
        ("os._exit(4)", 4),
        ("os.abort()", -signal.SIGABRT),
        ("os.kill(os.getpid(), signal.SIGTERM)\nsignal.pause()", -signal.SIGTERM),
        ("os.kill(os.getpid(), signal.SIGINT)\nsignal.pause()", -signal.SIGINT),
        ("os.execv('/bin/true', ['true'])", 0),
        ("threading.Thread(target=plasmid.get, args=(work.remote(1),), daemon=True).start()", 0),
    ],
)
def test_ended(temporary: Path, state: str, ending: str, status: int) -> None:
    program = Program(f"{state}\nresult = plasmid.put(bytes(1000_000))\n{ending}")
    program.end(status)
    assert_nothing_left(program, temporary)


def test_ended_in_the_middle_of_get_by_ctrl_c(temporary: Path) -> None:
    program = Program(WORKING + "say('ready')\nplasmid.get(refs)")
    while program.line() != "ready":
        pass
    program.process.send_signal(signal.SIGINT)
    program.end(-signal.SIGINT)
    assert "KeyboardInterrupt" in program.err
    assert_nothing_left(program, temporary)


def test_a_forked_child_of_the_driver_keeps_nothing_alive(temporary: Path) -> None:
    """It has copies of all the driver's descriptors, and lives on."""
    program = Program(
        IDLE + "child = os.fork()\nif child:\n    say('child', child)\nsignal.pause()\n"
    )
    while not (line := program.line()).startswith("child"):
        pass
    child = int(line.split()[1])
    kill(program.pid)
    program.process.wait()
    try:
        until(lambda: marked(program.mark) == [child], program._left)
    finally:
        kill(child)
    assert_nothing_left(program, temporary)


# Stopped -----------------------------------------------------------------------------------------


def test_workers_print_megabytes_beside_a_stopped_driver(temporary: Path, tmp_path: Path) -> None:
    """And the driver shows it all when it goes on."""
    done = tmp_path / "done"
    os.mkfifo(done)
    lines = 40_000
    program = Program(
        f"""
        plasmid.init(num_cpus=2)
        everything()

        @plasmid.remote
        def chatter(n):
            open({str(done)!r}, "w").write("s")
            for line in range({lines}):
                print(f"task {{n}} line {{line:06d}} " + "x" * 40)
            open({str(done)!r}, "w").write("e")

        refs = [chatter.remote(n) for n in range(2)]
        plasmid.get(refs)
        """,
        stdout=subprocess.PIPE,
    )
    with open(done, "rb", buffering=0) as pipe, open(done, "wb"):
        seen = b""
        while seen.count(b"s") < 2:
            seen += pipe.read(16)
        os.kill(program.pid, signal.SIGSTOP)
        until(lambda: is_stopped(program.pid), "the driver is stopped")
        while seen.count(b"e") < 2:
            seen += pipe.read(16)
        assert is_stopped(program.pid)
    os.kill(program.pid, signal.SIGCONT)
    out = program.end()
    for n in range(2):
        shown = [line for line in out.splitlines() if f") task {n} line" in line]
        assert [int(line.split()[5]) for line in shown] == list(range(lines))
    assert list(temporary.iterdir()) == []


def test_sessions_side_by_side_do_not_disturb_each_other(temporary: Path) -> None:
    ask = "say('ready')\nsys.stdin.readline()\nsay(plasmid.get(square.remote(9)))"
    programs = [Program(IDLE + ask, stdin=subprocess.PIPE) for _ in range(3)]
    for program in programs:
        while program.line() != "ready":
            pass
    kill(programs[0].pid)
    programs[0].process.wait()
    assert_nothing_left(programs[0], temporary)
    for program in programs[1:]:
        assert program.process.stdin
        program.process.stdin.write("\n")
        program.process.stdin.flush()
        assert program.line() == "81"
        program.end()
