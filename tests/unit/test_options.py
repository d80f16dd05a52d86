"""Task options: what is accepted, what is refused and how, and what a set of them means."""

from __future__ import annotations

from typing import Any

import pytest

from plasmid.engine import TaskOptions
from plasmid.exceptions import NotSupportedError
from plasmid.options import check_options, task_options


class Foreign:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("compared")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_cpus", 0),
        ("num_cpus", 0.5),
        ("num_cpus", 0.0001),
        ("num_cpus", 0.3),
        ("num_cpus", 1234.5678),
        ("num_cpus", None),
        ("num_returns", 0),
        ("num_returns", 3),
        ("num_returns", None),
        ("max_retries", -1),
        ("max_retries", 0),
        ("max_retries", 2**31 - 1),
        ("max_retries", None),
        ("retry_exceptions", True),
        ("retry_exceptions", [ValueError, KeyError]),
        ("retry_exceptions", ()),
        ("name", "other"),
        ("name", None),
        ("enable_task_events", False),
        ("num_gpus", 0),
        ("num_gpus", 0.0),
        ("num_gpus", None),
        ("memory", 0),
        ("resources", {}),
        ("runtime_env", None),
        ("scheduling_strategy", "SPREAD"),
        ("placement_group", "default"),
        ("placement_group_bundle_index", -1),
        ("label_selector", {}),
        ("accelerator_type", None),
        ("max_calls", 0),
        ("_metadata", {}),
    ],
)
def test_is_accepted(name: str, value: object) -> None:
    check_options({name: value})
    assert isinstance(task_options({name: value}, "f"), TaskOptions)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("num_cpus", -1, ValueError),
        ("num_cpus", float("nan"), ValueError),
        ("num_cpus", float("inf"), ValueError),
        ("num_cpus", 1e305, ValueError),
        pytest.param("num_cpus", 10**400, ValueError, id="num_cpus-huge"),
        ("num_cpus", 0.00001, ValueError),
        ("num_cpus", 0.00015, ValueError),
        ("num_cpus", "1", TypeError),
        ("num_cpus", True, TypeError),
        ("num_returns", -1, ValueError),
        ("num_returns", 1_000_001, ValueError),
        ("num_returns", 2**63, ValueError),
        ("num_returns", 1.5, TypeError),
        ("num_returns", True, TypeError),
        ("num_returns", "many", TypeError),
        ("num_returns", "streaming", NotSupportedError),
        ("num_returns", "dynamic", NotSupportedError),
        ("max_retries", -2, ValueError),
        ("max_retries", 2**31, ValueError),
        ("max_retries", 2**70, ValueError),
        ("max_retries", 1.5, TypeError),
        ("max_retries", "3", TypeError),
        ("retry_exceptions", None, TypeError),
        ("retry_exceptions", ValueError, TypeError),
        ("retry_exceptions", [3], ValueError),
        ("retry_exceptions", [ValueError()], ValueError),
        ("name", 3, TypeError),
        ("name", "", ValueError),
        ("enable_task_events", 1, TypeError),
        ("num_gpus", 1, NotSupportedError),
        ("memory", 10**6, NotSupportedError),
        ("resources", {"special": 1}, NotSupportedError),
        ("runtime_env", {"pip": ["x"]}, NotSupportedError),
        ("scheduling_strategy", Foreign(), NotSupportedError),
        ("max_calls", 1, NotSupportedError),
        ("label_selector", {"a": "b"}, NotSupportedError),
        ("max_restarts", 1, ValueError),
    ],
)
def test_is_refused_by_name(name: str, value: object, kind: type[Exception]) -> None:
    if isinstance(value, Foreign):
        value.__class__.__repr__ = lambda self: "Foreign"  # type: ignore[method-assign]
    with pytest.raises(kind, match=name):
        check_options({name: value})


def test_an_unknown_option_is_answered_with_the_nearest_and_all_valid_ones() -> None:
    with pytest.raises(ValueError, match=r"'num_cpu' .*Did you mean num_cpus.*max_retries"):
        check_options({"num_cpu": 1})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, TaskOptions("f")),
        (
            {"num_cpus": None, "num_returns": None, "max_retries": None, "name": None},
            TaskOptions("f", num_cpus=1.0, num_returns=1, max_retries=3),
        ),
        (
            {"num_cpus": 0, "num_returns": 0, "max_retries": 0, "name": "g"},
            TaskOptions("g", num_cpus=0.0, num_returns=0, max_retries=0),
        ),
        (
            {"num_cpus": 0.30000000000000004, "retry_exceptions": [ValueError]},
            TaskOptions("f", num_cpus=0.3, retry_exceptions=(ValueError,)),
        ),
    ],
)
def test_means(given: dict[str, Any], expected: TaskOptions) -> None:
    check_options(given)
    assert task_options(given, "f") == expected


def test_task_options_are_shown_and_compared_by_value() -> None:
    assert "num_cpus=0.5" in repr(TaskOptions("f", num_cpus=0.5))
    assert TaskOptions("f") != TaskOptions("g")
    assert TaskOptions("f") != "f"
