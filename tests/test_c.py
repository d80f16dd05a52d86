"""Run the tests of the C core, each in a process of its own, with ASan, UBSan and crash points.

A program tests/c/test_*.c holds the tests of one file of csrc. `program --list` prints their names,
one a line; `program NAME` runs one and prints `ok NAME` if it passes. The core is compiled once for
all of them. To debug one, `python tests/test_c.py FOLDER` builds the programs into FOLDER and says
how to run each test.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CC = os.environ.get("CC", "cc").split()
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
CFLAGS = [
    *("-std=c11", "-D_GNU_SOURCE", "-O1", "-g", "-pthread", "-fno-omit-frame-pointer", *SANITIZE),
    *("-Wall", "-Wextra", "-DPM_CRASH_POINTS=1", "-DPM_DEBUG=1", f"-I{ROOT / 'csrc'}"),
    *(["-Werror"] if os.environ.get("PLASMID_WERROR") == "1" else []),
]
SECONDS = 90


@dataclass(frozen=True)
class Case:
    """One test of one program; or, with `error`, what could not be built."""

    program: Path
    name: str
    error: str = ""

    def __str__(self) -> str:
        return f"{self.program.name}-{self.name}"


def run(*command: object) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    if done.returncode:
        raise RuntimeError(done.stdout)
    return done.stdout


def compiled(folder: Path, source: Path) -> Path:
    target = folder / f"{source.parent.name}-{source.stem}.o"
    run(*CC, *CFLAGS, "-c", source, "-o", target)
    return target


def cases_of(folder: Path, objects: list[Path], source: Path) -> list[Case]:
    program = folder / source.stem
    try:
        run(*CC, *SANITIZE, "-pthread", compiled(folder, source), *objects, "-o", program)
        return [Case(program, name) for name in run(program, "--list").split()]
    except RuntimeError as e:
        return [Case(program, "builds", str(e))]


def build(folder: Path) -> list[Case]:
    """Compile the core and every program into folder; all tests that they hold."""
    core = sorted((ROOT / "csrc").glob("*.c"))
    programs = sorted((ROOT / "tests" / "c").glob("test_*.c"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            objects = list(pool.map(partial(compiled, folder), core))
        except RuntimeError as e:
            return [Case(folder / "core", "builds", str(e))]
        found = list(pool.map(partial(cases_of, folder, objects), programs))
    return [case for some in found for case in some]


def is_able(folder: Path) -> bool:
    """Is there a C compiler with both sanitizers?"""
    source = folder / "empty.c"
    source.write_text("int main(void) { return 0; }\n")
    with suppress(OSError, RuntimeError):
        run(*CC, *SANITIZE, source, "-o", folder / "empty")
        return True
    return False


@cache
def all_cases() -> list[Case]:
    folder = Path(tempfile.mkdtemp(prefix="plasmid-test-c-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if is_able(folder) or "CI" in os.environ:
        return build(folder)
    return []  # pytest then says that the set of parameters is empty, and skips


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.parametrize("case", all_cases(), ids=str)


def test_core(case: Case, tmp_path: Path) -> None:
    if case.error:
        print(case.error)
        pytest.fail(f"{case.program.name} does not build", pytrace=False)
    with subprocess.Popen(
        [case.program, case.name],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    ) as child:
        try:
            output, _ = child.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            output = f"not done after {SECONDS} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # with all that it forked
    if child.returncode or f"ok {case.name}" not in output.splitlines():
        print(output)
        pytest.fail(f"{case}: status {child.returncode}", pytrace=False)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.mkdir(parents=True, exist_ok=True)
    for each in build(place):
        print(each.error or f"{each.program} {each.name}")
