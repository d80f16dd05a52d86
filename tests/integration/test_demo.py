"""`plasmid demo`, from its parts to the command as a user runs it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import sysconfig
import termios
from pathlib import Path

import numpy as np
import pytest

from plasmid import cli, demo
from plasmid.exceptions import ObjectStoreFullError

STDLIB = Path(sysconfig.get_path("stdlib"))


def plasmid_demo(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "plasmid", "demo", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


# --- parts


def test_files_are_found_in_a_fixed_order_without_what_the_user_installed(tmp_path):
    for name in ("b.py", "a.py", "a.txt", "pkg/z.py", "site-packages/numpy.py", "__pycache__/a.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = [str(path.relative_to(tmp_path)) for path in demo.python_files(tmp_path)]
    assert found == ["a.py", "b.py", "pkg/z.py"]


def test_a_file_that_cannot_be_read_is_left_out(tmp_path):
    (tmp_path / "a.py").write_text("a")
    (tmp_path / "b.py").symlink_to(tmp_path / "nowhere")
    (tmp_path / "c.py").write_text("c")
    sources = demo.read_sources(demo.python_files(tmp_path))
    assert sources.files == 2
    assert sources.text.tobytes() == b"ac"


@pytest.mark.parametrize("number", [1, 2, 3, 7, 100])
def test_batches_take_each_file_once_also_empty_ones(number):
    sizes = [0, 5, 0, 0, 90, 1, 1, 1, 0, 40, 0]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    sources = demo.Sources(np.zeros(starts[-1], np.uint8), starts)
    files = [i for batch in demo.batches(sources, number) for i in batch]
    assert files == list(range(len(sizes)))


def test_only_empty_files_are_one_batch():
    sources = demo.Sources(np.zeros(0, np.uint8), np.zeros(4, np.int64))
    assert demo.batches(sources, 8) == [range(3)]


def test_names_calls_and_lines_are_counted_and_bad_files_named_as_such(tmp_path):
    (tmp_path / "a.py").write_text("x = f(x)\nobj.method(1)()\n")
    (tmp_path / "b.py").write_bytes("# coding: latin-1\nf('ü')\n".encode("latin-1"))
    (tmp_path / "c.py").write_bytes(b"no python\n")
    (tmp_path / "d.py").write_bytes(b"\xff not utf-8")
    (tmp_path / "e.py").write_bytes(b"a\0b")
    sources = demo.read_sources(demo.python_files(tmp_path))
    count = demo.count_files(sources, range(sources.files))
    assert (count.files, count.not_parsed, count.lines) == (5, 3, 5)
    assert count.names == {"x": 2, "f": 2, "obj": 1}
    assert count.calls == {"f": 2, "method": 1}


def test_counts_of_batches_add_up_to_the_count_of_all():
    sources = demo.read_sources(demo.python_files(STDLIB / "json"))
    total = demo.Count()
    for batch in demo.batches(sources, 3):
        total.add(demo.count_files(sources, batch))
    assert total == demo.count_files(sources, range(sources.files))


# --- the command


def test_the_demo_finds_in_tasks_what_one_process_finds_and_shares_the_sources():
    done = plasmid_demo("--cpus", 2, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "no progress bar where nobody looks"
    report = json.loads(done.stdout)
    assert report["same_answer"]
    assert report["workers"] == 2
    assert report["tasks_in_place"] == report["tasks"] > 2
    assert report["files"] > 100
    assert report["names"]["self"] > 1000


def test_the_text_report_ends_with_the_check():
    done = plasmid_demo(STDLIB / "json", "--cpus", 1)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("one process finds the same\n")


def test_on_a_terminal_both_halves_show_a_progress_bar():
    main, side = pty.openpty()
    termios.tcsetwinsize(side, (24, 80))
    command = [sys.executable, "-m", "plasmid", "demo", str(STDLIB / "json"), "--cpus", "1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=side) as process:
        os.close(side)
        shown = bytearray()
        try:
            while piece := os.read(main, 4096):
                shown += piece
        except OSError:  # EIO: the other side is closed
            pass
        os.close(main)
    assert process.returncode == 0
    assert b"tasks" in shown
    assert b"one process" in shown
    assert b"100%" in shown


def test_a_wrong_answer_is_status_1(monkeypatch, capsys):
    def miscount(sources: demo.Sources, tasks: int) -> tuple[demo.Count, float]:
        return demo.Count(files=-1), 1.0

    monkeypatch.setattr(demo, "count_alone", miscount)
    assert cli.main(["demo", str(STDLIB / "json"), "--cpus", "1"]) == 1
    assert "disagree" in capsys.readouterr().err


def test_an_error_of_plasmid_is_one_line_and_status_1(monkeypatch, capsys):
    def full(sources: demo.Sources, cpus: int | None) -> demo.Parallel:
        raise ObjectStoreFullError("put of 9 MB: the store has 1 MB")

    monkeypatch.setattr(demo, "count_in_tasks", full)
    assert cli.main(["demo", str(STDLIB / "json")]) == 1
    assert capsys.readouterr().err == "plasmid: put of 9 MB: the store has 1 MB\n"


def test_a_folder_without_python_files_is_status_1(tmp_path):
    done = plasmid_demo(tmp_path)
    assert done.returncode == 1
    assert f"no readable Python files in {tmp_path}" in done.stderr


@pytest.mark.parametrize("wrong", [["--cpus", "0"], ["--cpus", "two"], ["--no-such-option"]])
def test_wrong_arguments_are_status_2(wrong):
    assert plasmid_demo(*wrong).returncode == 2


def test_ctrl_c_ends_it_with_status_130_and_no_traceback():
    command = [sys.executable, "-m", "plasmid", "demo", "--cpus", "2"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline().startswith("Counting")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == ""


def test_the_version_is_that_of_the_installed_package(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("plasmid ")
