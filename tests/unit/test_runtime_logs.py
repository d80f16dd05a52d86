"""What processes write into their files comes out of the driver's sys.stdout and sys.stderr."""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from plasmid.runtime import bars, handover, logs, output
from plasmid.runtime.logs import Follower


@pytest.fixture
def follower() -> Iterator[Follower]:
    follower = Follower()
    yield follower
    follower.drain()


def start(follower: Follower, work: Callable[[], object]) -> int:
    """A process whose output is followed; it ends as work() does."""
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(30)
            output.redirect(follower.name)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return pid


def run(follower: Follower, work: Callable[[], object]) -> str:
    """The same, until it has ended; its prefix without the task's name."""
    pid = start(follower, work)
    os.waitpid(pid, 0)
    return f"pid={pid})"


def until(true: Callable[[], object]) -> None:
    """Fails by the test's own time limit."""
    while not true():
        time.sleep(0.005)


class Shown:
    """What has been printed so far."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._out = ""

    @property
    def out(self) -> str:
        self._out += self._capsys.readouterr().out
        return self._out


def test_lines_appear_with_name_and_pid_while_the_process_runs(
    follower: Follower, capsys: pytest.CaptureFixture[str]
) -> None:
    gate_out, gate_in = os.pipe()

    def work() -> None:
        print("before any task")
        output.begin_task("f")
        print("one")
        output.end_task()
        output.begin_task("g")
        print("two")
        print("three")
        os.read(gate_out, 1)

    pid = start(follower, work)
    shown = Shown(capsys)
    until(lambda: "three" in shown.out)
    os.write(gate_in, b"x")
    os.waitpid(pid, 0)
    assert shown.out.splitlines() == [
        f"(pid={pid}) before any task",
        f"(f pid={pid}) one",
        f"(g pid={pid}) two",
        f"(g pid={pid}) three",
    ]
    os.close(gate_out)
    os.close(gate_in)


def test_stderr_goes_to_stderr(follower: Follower, capsys: pytest.CaptureFixture[str]) -> None:
    prefix = run(follower, lambda: print("oh", file=sys.stderr))
    follower.drain()
    assert capsys.readouterr() == ("", f"({prefix} oh\n")


def test_last_words_of_a_killed_process_are_shown(
    follower: Follower, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        print("whole")
        print("half", end="")
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    prefix = run(follower, work)
    shown = Shown(capsys)
    until(lambda: "half" in shown.out)
    assert shown.out == f"({prefix} whole\n({prefix} half\n"


def test_a_line_without_end_is_shown_when_its_task_ends(
    follower: Follower, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        output.begin_task("f")
        print("a", end="")
        print("b", end="")
        output.end_task()
        print("next")

    prefix = run(follower, work)
    follower.drain()
    assert capsys.readouterr().out == f"(f {prefix} ab\n(f {prefix} next\n"


def test_bytes_that_are_no_text_are_shown_as_well_as_can_be(
    follower: Follower, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = run(follower, lambda: os.write(1, b"caf\xe9 \xf0\x9f\n"))
    follower.drain()
    assert capsys.readouterr().out == f"({prefix} caf\ufffd \ufffd\n"


def test_a_progress_bar_ends_as_one_line(
    follower: Follower, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        for percent in range(0, 101, 10):
            print(f"\r{percent}%", end="", flush=True)
        print()

    prefix = run(follower, work)
    follower.drain()
    assert capsys.readouterr().out.splitlines()[-1] == f"({prefix} 100%"


def test_a_progress_bar_is_shown_while_it_moves() -> None:
    out = logs._Output(-1, 7, "f", False, -1)
    assert out.feed(b"\r10%") == ["(f pid=7) 10%\n"]
    assert out.feed(b"\r20%") == []  # less than a second later
    out._shown_at -= 2
    assert out.feed(b"\r30%\r") == ["(f pid=7) 30%\n"]
    assert out.feed(b"40%\r\n") == ["(f pid=7) 40%\n"]


def test_marks_may_be_cut_anywhere() -> None:
    stream = b"a\n\0plasmid:f\0\nb\nc\0plasmid:g\0\nd\n"
    whole = ["(pid=7) a\n", "(f pid=7) b\n", "(f pid=7) c\n", "(g pid=7) d\n"]
    for cut in range(len(stream) + 1):
        out = logs._Output(-1, 7, "", False, -1)
        assert out.feed(stream[:cut]) + out.feed(stream[cut:]) == whole


BAR = b'\0plasmid bar:[7, 0, %d, 10, "copy", "it", 0, false]\0\n'


def test_marks_of_bars_may_be_cut_anywhere_and_come_into_lines() -> None:
    stream = b"a\nhalf " + BAR % 1 + BAR % 2 + b"whole\n\0plasmid:f\0\nb" + BAR % 3 + b"\n"
    whole = ["(pid=7) a\n", "(pid=7) half whole\n", "(f pid=7) b\n"]
    for cut in range(len(stream) + 1):
        out = logs._Output(-1, 7, "", False, -1)
        assert out.feed(stream[:cut]) + out.feed(stream[cut:]) == whole
        assert out.finish() == []
        (bar,) = out.bars.values()
        assert (bar.n, bar.total, bar.label) == (3, 10, "(f pid=7) copy")
        assert bar.key == (out, 7, 0)


def test_a_mark_that_a_kill_has_cut_short_is_not_shown() -> None:
    for mark in (BAR % 5, b"\0plasmid:task\0\n"):
        for cut in range(len(output.MARK), len(mark)):
            out = logs._Output(-1, 7, "", False, -1)
            assert out.feed(b"half" + mark[:cut]) + out.finish() == ["(pid=7) half\n"]


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"{}",
        b"[",
        b"[1, 2]",
        b"\xff\xfe",
        b"[" * 4000,
        b'[7, 0, "x", 10, "copy", "it", 0, false]',
        b'[7, 0, 1, [], "copy", "it", 0, false]',
        b'[7, 0, 1, 10, 5, "it", 0, false]',
        b'[7, 0, 1, 10, "copy", null, 0, false]',
        b'[7, 0, 1, 10, "copy", "it", 1e999, false]',
        b'[[], 0, 1, 10, "copy", "it", 0, false]',
    ],
)
def test_a_mark_that_is_no_bar_is_dropped(state: bytes) -> None:
    out = logs._Output(-1, 7, "", False, -1)
    assert out.feed(b"a" + output.BAR + state + b"\0\nb\n") == ["(pid=7) ab\n"]
    assert out.bars == {}


def test_odd_numbers_and_texts_of_a_bar_can_be_drawn() -> None:
    out = logs._Output(-1, 7, "", False, -1)
    out.feed(output.BAR + b'[7, 0, NaN, Infinity, "a\\nb\\u0000", "\\n", 0, false]\0\n')
    (bar,) = out.bars.values()
    assert (bar.n, bar.total, bar.description, bar.unit) == (0, None, "a b ", "")


def test_an_endless_line_does_not_break_the_mark_behind_it() -> None:
    mark = BAR % 5
    for cut in range(len(mark)):
        out = logs._Output(-1, 7, "", False, -1)
        shown = out.feed(b"x" * (logs._LONGEST_LINE + 1) + mark[:cut]) + out.feed(mark[cut:])
        assert "".join(shown + out.finish()).count("x") == logs._LONGEST_LINE + 1
        assert "".join(shown).count("bar") == 0
        (bar,) = out.bars.values()
        assert bar.n == 5


def test_the_longest_bar_is_shorter_than_a_mark_may_be() -> None:
    text = "\U0001f600" * 999
    bar = bars.make((1 << 60, 1 << 60), 1e-300, 1e300, text, text, 9, True)
    state = json.dumps([*bar.key, bar.n, bar.total, bar.description, bar.unit, 1 << 60, True])
    assert len(output.BAR + state.encode()) < output.LONGEST_MARK
    assert bars.parse(state.encode()) is not None


def test_an_endless_line_is_shown_in_pieces() -> None:
    out = logs._Output(-1, 7, "", False, -1)
    pieces = [line for _ in range(10) for line in out.feed(b"x" * 20_000)]
    assert pieces
    assert len(out._rest) <= logs._LONGEST_LINE


def test_many_lines_arrive_all_and_in_order(
    follower: Follower, capsys: pytest.CaptureFixture[str]
) -> None:
    count = 50_000

    def work() -> None:
        for number in range(count):
            print(number)

    prefix = run(follower, work)
    follower.drain()
    assert capsys.readouterr().out == "".join(f"({prefix} {n}\n" for n in range(count))


def test_what_was_read_is_cut_out_of_the_file(
    follower: Follower, capsys: pytest.CaptureFixture[str]
) -> None:
    gate_out, gate_in = os.pipe()

    def work() -> None:
        for _ in range(40):
            print("x" * 100_000)
        print("done")
        os.read(gate_out, 1)

    pid = start(follower, work)
    shown = Shown(capsys)
    until(lambda: "done" in shown.out)
    until(lambda: os.stat(f"/proc/{pid}/fd/1").st_blocks * 512 < 2_000_000)
    assert os.stat(f"/proc/{pid}/fd/1").st_size > 4_000_000
    os.write(gate_in, b"x")
    os.waitpid(pid, 0)
    os.close(gate_out)
    os.close(gate_in)


def test_programs_and_forks_that_a_task_starts_are_followed(
    follower: Follower, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        output.begin_task("f")
        print("itself")
        subprocess.run(["echo", "program"], check=True)
        if os.fork() == 0:
            print("fork")
            os._exit(0)
        os.wait()

    prefix = run(follower, work)
    follower.drain()
    assert capsys.readouterr().out.splitlines() == [
        f"(f {prefix} {what}" for what in ("itself", "program", "fork")
    ]


def test_a_fork_that_outlives_its_process_is_followed(
    follower: Follower, capsys: pytest.CaptureFixture[str]
) -> None:
    gate_out, gate_in = os.pipe()

    def work() -> None:
        if os.fork() == 0:
            os.read(gate_out, 1)
            print("still here")
            os._exit(0)

    prefix = run(follower, work)
    shown = Shown(capsys)
    until(lambda: follower._outputs)
    os.write(gate_in, b"x")
    until(lambda: "still here" in shown.out)
    assert shown.out == f"({prefix} still here\n"
    until(lambda: not follower._outputs)
    os.close(gate_out)
    os.close(gate_in)


def test_the_files_of_dead_processes_are_closed(follower: Follower) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    for _ in range(5):
        run(follower, lambda: print("x"))
    until(lambda: descriptors() == before)


def test_a_reopened_standard_stream_is_no_end(
    follower: Follower, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        subprocess.run("echo shell > /dev/stdout", shell=True, check=True)
        print("after")

    prefix = run(follower, work)
    follower.drain()
    assert capsys.readouterr().out == f"({prefix} shell\n({prefix} after\n"


def test_output_that_cannot_be_written_does_not_fail_the_task(
    follower: Follower, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, 1)
        print("lost")
        sys.stdout.flush()
        print("reached", file=sys.stderr)

    run(follower, work)
    follower.drain()
    assert "reached" in capsys.readouterr().err


def test_without_inotify_output_is_shown_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> int:
        raise OSError(24, "fs.inotify.max_user_instances reached")

    monkeypatch.setattr(logs.core, "inotify", refuse)
    follower = Follower()
    run(follower, lambda: print("hello"))
    shown = Shown(capsys)
    until(lambda: "hello" in shown.out)
    until(lambda: not follower._outputs)
    follower.drain()


def test_without_a_folder_for_files_output_goes_to_memory(
    monkeypatch: pytest.MonkeyPatch, follower: Follower, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(output, "_FOLDERS", ("/nowhere", "/proc"))
    prefix = run(follower, lambda: print("hello"))
    shown = Shown(capsys)
    until(lambda: "hello" in shown.out)
    assert shown.out == f"({prefix} hello\n"


def test_files_have_no_name_in_any_folder() -> None:
    fd = output.open_file()
    assert os.fstat(fd).st_nlink == 0
    os.close(fd)


def test_a_stopped_driver_blocks_nobody(follower: Follower) -> None:
    """Nobody accepts at the listener, as if the driver's log thread were stopped."""
    name = handover.new_name()
    listener = handover.listen(name)
    fd = output.open_file()
    for _ in range(100):
        output.tell_driver(name, "", os.getpid(), [fd, fd])
    os.close(fd)
    links = list(handover.accept(listener))
    assert len(links) == 100
    message, fds = handover.receive(links[0], 2)
    assert message.split()[0] == str(os.getpid()).encode()
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(fd, b"the driver can only read")
        os.close(fd)
    for link in links:
        link.close()
    listener.close()


def test_without_a_log_socket_output_goes_nowhere() -> None:
    pid = os.fork()
    if pid == 0:
        output.redirect("")
        print("x")
        os._exit(0 if os.readlink("/proc/self/fd/1") == "/dev/null" else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_drain_may_be_called_twice_and_in_a_fork(follower: Follower) -> None:
    pid = os.fork()
    if pid == 0:
        follower.drain()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    follower.drain()
    follower.drain()


def test_a_broken_stdout_does_not_end_the_thread(
    follower: Follower, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = threading.Event()

    class Broken:
        def write(self, text: str) -> int:
            tried.set()
            raise BrokenPipeError

    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", Broken())
        run(follower, lambda: print("lost"))
        assert tried.wait(60)
    prefix = run(follower, lambda: print("found"))
    follower.drain()
    assert capsys.readouterr().out == f"({prefix} found\n"


def test_a_terminal_that_is_not_utf8_gets_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    logs._show(False, ["\u2713\n"])
    assert raw.getvalue() == b"\\u2713\n"


def test_the_name_of_a_task_cannot_break_the_stream(
    follower: Follower, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        output.begin_task("a\nb\0c")
        print("x")

    prefix = run(follower, work)
    follower.drain()
    assert capsys.readouterr().out == f"(a b c {prefix} x\n"


def test_c_code_that_ends_without_flushing_is_not_lost_by_python(
    follower: Follower, capsys: pytest.CaptureFixture[str]
) -> None:
    libc = ctypes.CDLL(None)
    prefix = run(follower, lambda: (libc.write(1, b"raw\n", 4), print("python")))
    follower.drain()
    assert capsys.readouterr().out == f"({prefix} raw\n({prefix} python\n"


def test_a_task_finds_working_streams_whatever_the_last_one_did_to_them(
    follower: Follower, capsys: pytest.CaptureFixture[str]
) -> None:
    def rewrap() -> None:
        sys.stdout = io.TextIOWrapper(sys.stdout.buffer)  # which closes it, when dropped

    def drop_all() -> None:
        sys.stdout = sys.stderr = sys.__stdout__ = None  # type: ignore[assignment, misc]

    def work() -> None:
        attacks = [
            sys.stdout.close,
            lambda: sys.stdout.detach(),
            lambda: setattr(sys, "stdout", io.StringIO()),
            rewrap,
            drop_all,
        ]
        for attack in attacks:
            output.begin_task("attacks")
            print("before")
            attack()
            output.end_task()
            output.begin_task("next")
            print("out")
            print("err", file=sys.stderr)
            output.end_task()

    prefix = run(follower, work)
    follower.drain()
    shown = capsys.readouterr()
    assert shown.out == f"(attacks {prefix} before\n(next {prefix} out\n" * 5
    assert shown.err == f"(next {prefix} err\n" * 5


def test_a_task_that_closed_its_stdout_may_print_into_the_void(
    follower: Follower, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        output.begin_task("f")
        sys.stdout.close()
        print("lost", flush=True)
        output.end_task()
        print("found", file=sys.stderr)

    prefix = run(follower, work)
    follower.drain()
    assert capsys.readouterr().err == f"(f {prefix} found\n"


def test_a_task_on_top_of_another_does_not_get_its_streams_nor_take_them(
    follower: Follower, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        output.begin_task("outer")
        print("first")
        with contextlib.redirect_stdout(io.StringIO()) as kept:
            print("kept")
            for _ in range(2):
                output.begin_task("inner")
                print("inner")
                output.end_task()
                output.begin_task("outer")
            print("kept")
        print(kept.getvalue().split())
        output.end_task()

    prefix = run(follower, work)
    follower.drain()
    assert capsys.readouterr().out == (
        f"(outer {prefix} first\n"
        f"(inner {prefix} inner\n"
        f"(inner {prefix} inner\n"
        f"(outer {prefix} ['kept', 'kept']\n"
    )
