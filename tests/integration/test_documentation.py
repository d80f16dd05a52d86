"""The examples of the documentation are programs that run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import run_program

DOCS = Path(__file__).parents[2] / "docs"


def examples() -> list[pytest.param]:  # type: ignore[valid-type]
    found = []
    for page in sorted(DOCS.glob("*.md")):
        blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
        found += [pytest.param(text, id=f"{page.stem}-{i}") for i, text in enumerate(blocks)]
    return found


@pytest.mark.parametrize("text", examples())
def test_an_example_runs(text: str) -> None:
    run_program(text)
