"""The sources are clean: every lint, format and type check of the project, each as one test.

This is the only place that says how the tools are called; what they check is in pyproject.toml and
.clang-format. They come with `pip install '.[dev]'`; one that is not installed is skipped, but not
in CI.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# The tools beside this interpreter, not other releases on the PATH: those would judge differently.
TOOLS = Path(sys.executable).parent

PYTHON = ["setup.py", "src", "tests", "benchmarks"]
C = [
    str(p.relative_to(ROOT)) for d in ("csrc", "tests/c") for p in sorted(ROOT.glob(f"{d}/*.[ch]"))
]
# What Cython adds to every class is not in the stub; mypy finds what we use and the stub lacks.
STUBTEST = ["--ignore-missing-stub", "--ignore-disjoint-bases"]
STUBTEST += ["--mypy-config-file", "pyproject.toml"]
CHECKS = {
    "ruff": ["ruff", "check", "--quiet", *PYTHON],
    "ruff-format": ["ruff", "format", "--quiet", "--diff", *PYTHON],
    "mypy": ["mypy", "--no-error-summary"],
    "stubtest": ["stubtest", "plasmid._core.core", *STUBTEST],
    "cython-lint": ["cython-lint", "src"],
    "clang-format": ["clang-format", "--dry-run", "--Werror", "--ferror-limit=20", *C],
    "codespell": ["codespell", "README.md", "csrc", *PYTHON],
}


@pytest.mark.parametrize("check", CHECKS)
def test_is_clean(check: str) -> None:
    tool, *arguments = CHECKS[check]
    if not (TOOLS / tool).exists():
        if "CI" in os.environ:
            pytest.fail(f"{tool} is not installed", pytrace=False)
        pytest.skip(f"{tool} is not installed")
    done = subprocess.run(
        [TOOLS / tool, *arguments],
        cwd=ROOT,
        env=os.environ | {"PATH": f"{TOOLS}:{os.environ['PATH']}"},  # cython-lint calls pycodestyle
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        print(done.stdout)
        pytest.fail(f"{' '.join(CHECKS[check])}: status {done.returncode}", pytrace=False)
