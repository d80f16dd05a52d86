"""Progress bars of tasks: together on a terminal, and as text elsewhere."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from support import run_program

from plasmid.experimental import tqdm_ray
from plasmid.runtime import bars, board

START = """
import os, signal, sys
import plasmid as ray
from plasmid.experimental import tqdm_ray
ray.init(num_cpus=2, object_store_memory=4 << 20)
"""


class Screen:
    """What a terminal shows of what was written to it: the text with all that has scrolled off."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = [[]]
        self.row = self.column = 0

    def write(self, text: str) -> None:
        for part in re.findall(r"\x1b\[[0-9;]*[A-Za-z]|.", text, re.DOTALL):
            if part == "\r":
                self.column = 0
            elif part == "\n":
                self.row += 1
                if self.row == len(self.rows):
                    self.rows.append([])
            elif part == "\x1b[A":
                self.row = max(0, self.row - 1)
            else:
                assert part[0] != "\x1b", repr(part)
                row = self.rows[self.row]
                row.extend(" " * (self.column + 1 - len(row)))
                row[self.column] = part
                self.column += 1

    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self.rows]


def on_terminal(code: str, *args: str) -> tuple[list[str], str]:
    """What a terminal of 30 rows and 100 columns shows after a program, and all that it was
    sent."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    program = [sys.executable, "-c", code, *args]
    with subprocess.Popen(program, stdin=slave, stdout=slave, stderr=slave) as running:
        os.close(slave)
        sent = b""
        while True:
            try:
                sent += os.read(master, 1 << 16)
            except OSError:  # the last writer is gone
                break
    os.close(master)
    assert running.returncode == 0, sent.decode()
    screen = Screen()
    screen.write(sent.decode())
    return screen.lines(), sent.decode()


MANY = """
@ray.remote
def work(k):
    for x in tqdm_ray.tqdm(range(200), desc=f"job {k}"):
        if x % 20 == 0:
            print(f"line {x} of {k}")
            sys.stderr.write(f"error {x} of {k}\\n")
for done in tqdm_ray.tqdm([work.remote(k) for k in range(20)], desc="all", unit="job"):
    ray.get(done)
    print("one more")
ray.shutdown()
"""


def test_bars_of_many_tasks_spoil_no_line_of_a_terminal() -> None:
    lines, _ = on_terminal(START + MANY)
    texts = [re.sub(r"^\(work pid=\d+\) ", "", line) for line in lines if line]
    for k in range(20):
        for x in range(0, 200, 20):
            assert texts.count(f"line {x} of {k}") == 1
            assert texts.count(f"error {x} of {k}") == 1
        last = [text for text in texts if text.startswith(f"job {k}:")]
        assert len(last) == 1
        assert "100%" in last[0]
        assert "200/200" in last[0]
    assert texts.count("one more") == 20
    assert sum(text.startswith("all: 100%") for text in texts) == 1
    assert len(texts) == 20 * 10 * 2 + 20 + 20 + 1


def test_without_a_terminal_bars_are_lines_on_stderr_and_nothing_is_lost() -> None:
    out, err = run_program(START + MANY)
    assert len(out.splitlines()) == 20 * 10 + 20
    assert "\0" not in out + err
    ends = [line for line in err.splitlines() if " of 200" in line or "all" in line]
    assert len(ends) == 21
    assert sum(line.endswith(": 200 of 200") for line in ends) == 20
    assert "all: 20 of 20" in ends
    assert len(err.splitlines()) == 21 + 20 * 10


def test_bars_of_two_tasks_are_beneath_each_other_while_they_run(tmp_path: Path) -> None:
    _, sent = on_terminal(
        START
        + """
import fcntl, threading
def door():
    return os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
@ray.remote
def work(k):
    with tqdm_ray.tqdm(total=10, desc=f"job {k}") as bar:
        bar.update(k + 1)
        fcntl.flock(door(), fcntl.LOCK_SH)
shut = door()
fcntl.flock(shut, fcntl.LOCK_EX)
refs = [work.remote(k) for k in range(2)]
def rows():
    return [row.tqdm.pos for row in tqdm_ray.instance()._drawn()]
while len(rows()) < 2:
    threading.Event().wait(0.01)
assert rows() == [0, -1], rows()
assert print is tqdm_ray.safe_print
os.close(shut)
ray.get(refs)
ray.shutdown()
assert rows() == []
assert print is not tqdm_ray.safe_print
""",
        str(tmp_path / "door"),
    )
    assert " 1/10 " in sent
    assert " 2/10 " in sent


def test_a_worker_that_dies_closes_its_bars() -> None:
    lines, sent = on_terminal(
        START
        + """
@ray.remote(max_retries=0)
def dies():
    bar = tqdm_ray.tqdm(total=100, desc="short life")
    bar.n = 40
    bar._due = 0
    bar.refresh()
    print("last words")
    os.kill(os.getpid(), signal.SIGKILL)
try:
    ray.get(dies.remote())
except ray.exceptions.WorkerCrashedError:
    pass
@ray.remote
def lives():
    for x in tqdm_ray.tqdm(range(3), desc="next"):
        print("still", x)
ray.get(lives.remote())
ray.shutdown()
print("over")
"""
    )
    texts = [line for line in lines if line]
    assert sum("short life:  40%" in line and "40/100" in line for line in texts) == 1
    assert sum("next: 100%" in line for line in texts) == 1
    assert sum(line.endswith("last words") for line in texts) == 1
    assert texts[-1] == "over"
    assert len(texts) == 1 + 1 + 3 + 1 + 1, sent


def test_a_bar_that_nobody_closed_is_shown_at_the_end_of_its_task_as_far_as_it_came() -> None:
    _, err = run_program(
        START
        + """
kept = []
@ray.remote
def work():
    kept.append(tqdm_ray.tqdm(total=1000, desc="kept"))
    for _ in range(777):
        kept[0].update()
@ray.remote
def drops():
    tqdm_ray.tqdm(total=10, desc="dropped").update(3)
ray.get([work.remote(), drops.remote()])
ray.shutdown()
"""
    )
    found = sorted(line.partition(") ")[2] for line in err.splitlines())
    assert found == ["dropped: 3 of 10", "kept: 777 of 1000"]


def test_without_log_to_driver_there_are_no_bars() -> None:
    out, err = run_program(
        START.replace("num_cpus=2", "log_to_driver=False, num_cpus=2")
        + """
@ray.remote
def work():
    for _ in tqdm_ray.tqdm(range(5), desc="hidden"):
        tqdm_ray.safe_print("hidden")
ray.get(work.remote())
for _ in tqdm_ray.tqdm(range(5), desc="mine"):
    tqdm_ray.safe_print("mine")
"""
    )
    assert out == "mine\n" * 5
    assert err == "mine: 5 of 5\n"


def test_a_task_whose_stdout_is_another_file_finds_no_marks_in_it() -> None:
    out, _ = run_program(
        START
        + """
@ray.remote
def work():
    mine = os.memfd_create("mine")
    kept = os.dup(1)
    os.dup2(mine, 1)
    for _ in tqdm_ray.tqdm(range(5)):
        print("x")
    os.dup2(kept, 1)
    return os.pread(mine, 1000, 0)
print(ray.get(work.remote()))
"""
    )
    assert out == "b'x\\nx\\nx\\nx\\nx\\n'\n"


def test_lines_that_a_bar_comes_into_stay_whole() -> None:
    out, _ = run_program(
        START
        + """
@ray.remote
def work():
    with tqdm_ray.tqdm(total=3) as bar:
        for _ in range(3):
            sys.stdout.write("half ")
            sys.stdout.flush()
            bar._due = 0
            bar.update()
        print("and whole")
ray.get(work.remote())
"""
    )
    assert out.partition(") ")[2] == "half half half and whole\n"


def test_print_is_not_replaced_if_the_program_says_so() -> None:
    code = """
import sys
from plasmid.experimental import tqdm_ray
with tqdm_ray.tqdm(total=3) as bar:
    assert (print is tqdm_ray.safe_print) == (sys.argv[1:] == [])
    bar.update()
print("done", print is tqdm_ray.safe_print)
"""
    lines, _ = on_terminal(code)
    assert [line for line in lines if line][-1] == "done False"
    off = "import os; os.environ['RAY_TQDM_PATCH_PRINT'] = '0'\n"
    lines, _ = on_terminal(off + code, "off")
    assert [line for line in lines if line][-1] == "done False"


# Without a session ------------------------------------------------------------------------------


def test_a_bar_that_moves_fast_is_sent_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[board.Bar] = []
    monkeypatch.setattr(bars, "send", sent.append)
    clock = [0.0]
    monkeypatch.setattr(tqdm_ray.time, "monotonic", lambda: clock[0])
    bar = tqdm_ray.tqdm(total=100_000)
    for _ in range(100_000):
        clock[0] += 1e-5
        bar.update()
    assert 10 <= len(sent) <= 12
    bars.send_rest()
    assert sent[-1].n == 100_000
    assert not sent[-1].is_closed
    bar.close()
    bar.close()
    assert sent[-1].is_closed
    assert len(sent) <= 14


def test_wrong_uses_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TypeError, match="total must be a number, not 'many'"):
        tqdm_ray.tqdm(total="many")  # type: ignore[arg-type]
    with tqdm_ray.tqdm() as bar, pytest.raises(ValueError, match="without an iterable"):
        list(bar)
    assert capsys.readouterr().err == "it: 0 it\n"


def test_an_iterable_of_unknown_length_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(tqdm_ray.tqdm(iter("abc"), desc="letters")) == ["a", "b", "c"]
    assert capsys.readouterr().err == "letters: 3 it\n"


def test_without_the_library_a_terminal_gets_lines() -> None:
    lines, sent = on_terminal(
        "import sys; sys.modules['tqdm'] = None\n" + START + MANY.replace("200)", "40)")
    )
    assert "\x1b" not in sent
    assert sum(line.endswith(": 40 of 40") for line in lines) == 20
