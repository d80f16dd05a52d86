"""What tasks print reaches the driver as `(name pid=N) line`."""

from __future__ import annotations

import re
import sys

import pytest
from support import run_program

START = """
import os, subprocess, sys
import plasmid
plasmid.init(num_cpus=1, object_store_memory=4 << 20)
"""

LINE = re.compile(r"\((?:(.*) )?pid=(\d+)\) (.*)")


def lines(text: str) -> list[tuple[str, str]]:
    """(name, line) of each line of tasks; all of one pid."""
    found = [LINE.fullmatch(line) for line in text.splitlines()]
    assert all(found), text
    assert len({match[2] for match in found if match}) <= 1
    return [(match[1], match[3]) for match in found if match]


def test_prints_appear_on_stdout_and_errors_on_stderr_under_the_tasks_name() -> None:
    out, err = run_program(
        START
        + """
@plasmid.remote
def talk():
    print("to out")
    print("to err", file=sys.stderr)
plasmid.get(talk.remote())
plasmid.get(talk.options(name="other name").remote())
plasmid.shutdown()
"""
    )
    assert lines(out) == [("talk", "to out"), ("other name", "to out")]
    assert lines(err) == [("talk", "to err"), ("other name", "to err")]


def test_the_pid_is_that_of_the_worker() -> None:
    out, _ = run_program(
        START
        + """
@plasmid.remote
def talk():
    print("hello")
    return os.getpid()
pid = plasmid.get(talk.remote())
plasmid.shutdown()
print(f"(talk pid={pid}) hello")
"""
    )
    first, second = out.splitlines()
    assert first == second


def test_all_is_shown_even_if_the_program_never_calls_shutdown() -> None:
    out, _ = run_program(
        START
        + """
@plasmid.remote
def talk():
    for n in range(1000):
        print(n)
plasmid.get(talk.remote())
"""
    )
    assert lines(out) == [("talk", str(n)) for n in range(1000)]


def test_descriptors_child_programs_and_c_code_are_followed_too() -> None:
    out, err = run_program(
        START
        + """
import ctypes
@plasmid.remote
def talk():
    print("python")
    print("python", file=sys.stderr)
    os.write(1, b"descriptor\\n")
    subprocess.run(["echo", "program"], check=True)
    subprocess.run("echo program to err >&2", shell=True, check=True)
    libc = ctypes.CDLL(None)
    libc.puts(b"libc")
    libc.fflush(None)
plasmid.get(talk.remote())
plasmid.shutdown()
"""
    )
    assert lines(out) == [("talk", text) for text in ("python", "descriptor", "program", "libc")]
    assert lines(err) == [("talk", "python"), ("talk", "program to err")]


def test_unfinished_lines_end_with_their_task() -> None:
    out, _ = run_program(
        START
        + """
@plasmid.remote
def talk(text):
    sys.stdout.write(text)
plasmid.get([talk.options(name=str(n)).remote(f"no newline {n}") for n in range(2)])
plasmid.shutdown()
"""
    )
    assert lines(out) == [("0", "no newline 0"), ("1", "no newline 1")]


def test_unfinished_lines_of_a_stream_that_was_replaced_end_with_their_task() -> None:
    out, _ = run_program(
        START
        + """
import io
@plasmid.remote
def talk(text):
    sys.stdout.write(text)
    sys.stdout = io.StringIO()
for n in range(2):
    plasmid.get(talk.remote(f"no newline {n}"))
plasmid.shutdown()
"""
    )
    assert lines(out) == [("talk", "no newline 0"), ("talk", "no newline 1")]


def test_unicode_empty_lines_and_long_lines_arrive_whole() -> None:
    out, _ = run_program(
        START
        + """
@plasmid.remote
def talk():
    print("snow ☃")
    print()
    print("x" * 10_000)
plasmid.get(talk.remote())
""",
        env=None,
    )
    assert lines(out) == [("talk", "snow ☃"), ("talk", ""), ("talk", "x" * 10_000)]


def test_the_names_of_tasks_inside_tasks_are_told_apart() -> None:
    out, _ = run_program(
        START
        + """
@plasmid.remote
def inner():
    print("from inner")
@plasmid.remote
def outer():
    print("before")
    plasmid.get(inner.remote())
    print("after")
plasmid.get(outer.remote())
"""
    )
    assert lines(out) == [("outer", "before"), ("inner", "from inner"), ("outer", "after")]


def test_last_words_of_a_worker_that_dies_are_shown() -> None:
    out, err = run_program(
        START
        + """
import ctypes
@plasmid.remote(max_retries=0)
def dies():
    print("last words")
    ctypes.string_at(0)
try:
    plasmid.get(dies.remote())
except plasmid.exceptions.WorkerCrashedError as error:
    print(error.signal)
plasmid.shutdown()
"""
    )
    assert {"(dies", "11"} == {line.split()[0] for line in out.splitlines()}
    assert "last words" in out
    assert "Segmentation fault" in err
    assert "in dies" in err


def test_warnings_and_logging_of_a_task_go_to_stderr() -> None:
    _, err = run_program(
        START
        + """
import logging, warnings
@plasmid.remote
def warn():
    logging.warning("log line")
    warnings.warn("a warning")
plasmid.get(warn.remote())
"""
    )
    assert "WARNING:root:log line" in err
    assert "UserWarning: a warning" in err
    assert all(line.startswith("(warn pid=") for line in err.splitlines())


def test_a_replaced_sys_stdout_gets_what_tasks_print() -> None:
    out, _ = run_program(
        START
        + """
import contextlib, io
@plasmid.remote
def talk():
    print("caught")
with contextlib.redirect_stdout(io.StringIO()) as text:
    plasmid.get(talk.remote())
    plasmid.shutdown()
print("nothing" if not text.getvalue() else text.getvalue().partition(") ")[2], end="")
"""
    )
    assert out == "caught\n"


def test_log_to_driver_false_shows_nothing() -> None:
    out, err = run_program("""
import plasmid, sys
plasmid.init(num_cpus=1, object_store_memory=4 << 20, log_to_driver=False)
@plasmid.remote
def talk():
    print("x")
    print("x", file=sys.stderr)
    return "done"
print(plasmid.get(talk.remote()))
plasmid.shutdown()
""")
    assert (out, err) == ("done\n", "")


def test_a_session_that_works_well_says_nothing() -> None:
    out, err = run_program("""
import plasmid
f = plasmid.remote(lambda x: x)
for n in range(5):
    plasmid.init(num_cpus=2, object_store_memory=4 << 20)
    if n % 2:
        plasmid.get([f.remote(k) for k in range(n)])
    plasmid.shutdown()
plasmid.get(f.remote(1))
""")
    assert (out, err) == ("", "")


@pytest.mark.parametrize("closed", ["1", "2"])
def test_a_driver_without_stdout_or_stderr_works(closed: str) -> None:
    code = """
import os, sys
os.close(int(sys.argv[1]))
import plasmid
@plasmid.remote
def talk():
    print("x")
    print("x", file=sys.stderr)
    return 5
plasmid.init(num_cpus=1, object_store_memory=4 << 20)
os._exit(plasmid.get(talk.remote()) + 10)
"""
    run_program(code, closed, status=15)


def test_stdin_of_a_task_is_empty() -> None:
    out, _ = run_program(
        START
        + """
@plasmid.remote
def ask():
    return sys.stdin.read()
print(repr(plasmid.get(ask.remote())))
""",
        stdin=sys.__stdin__ and None,
    )
    assert out == "''\n"


def test_what_a_task_does_to_its_streams_is_no_concern_of_the_next() -> None:
    out, _ = run_program(
        START
        + """
import contextlib, io
@plasmid.remote
def closes():
    sys.stdout.close()
@plasmid.remote
def replaces():
    sys.stdout = None
@plasmid.remote
def talk():
    print("hello")
@plasmid.remote
def outer():
    with contextlib.redirect_stdout(io.StringIO()) as text:
        print("kept")
        plasmid.get(talk.remote())
        print("kept")
    print(text.getvalue().split())
for task in (closes, talk, replaces, talk, outer):
    plasmid.get(task.remote())
"""
    )
    assert lines(out) == [*[("talk", "hello")] * 3, ("outer", "['kept', 'kept']")]
