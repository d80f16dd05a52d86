"""What every test shares. Time limits and faulthandler are set in pyproject.toml."""

from __future__ import annotations

import os

import hypothesis
import pytest

# Sessions of these tests and of this user's other programs do not find each other.
os.environ["PLASMID_SCOPE"] = f"tests {os.getpid()}"

# A test that is slow on a busy machine is not wrong.
hypothesis.settings.register_profile("plasmid", deadline=None)
hypothesis.settings.load_profile("plasmid")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow: runs with --slow")
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(skip)
