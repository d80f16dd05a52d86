"""Task options: what is accepted, what is refused and how, and what a set of them means."""

from __future__ import annotations

from typing import Any

import pytest

from plasmid.engine import TaskOptions
from plasmid.exceptions import NotSupportedError
from plasmid.groups import PlacementGroup
from plasmid.options import check_options, task_options
from plasmid.strategies import (
    DoesNotExist,
    Exists,
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    NotIn,
    PlacementGroupSchedulingStrategy,
    fits_selector,
    matches,
)


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
        ("num_gpus", 0.25),
        ("num_gpus", 4),
        ("memory", 10**9),
        ("memory", 1e9),
        ("resources", {}),
        ("resources", None),
        ("resources", {"special": 1, "rare": 0.5}),
        ("accelerator_type", "A100"),
        ("scheduling_strategy", "DEFAULT"),
        ("scheduling_strategy", NodeAffinitySchedulingStrategy("ab" * 28, soft=True)),
        ("scheduling_strategy", NodeLabelSchedulingStrategy({"a": Exists()})),
        ("scheduling_strategy", PlacementGroupSchedulingStrategy(None)),
        ("placement_group", None),
        ("placement_group", PlacementGroup.empty()),
        ("placement_group_capture_child_tasks", True),
        ("label_selector", {"ray.io/zone": "in(a, b)", "b": "!c", "d": "!in(e)"}),
        ("fallback_strategy", [{"label_selector": {"a": "b"}}]),
        ("runtime_env", None),
        ("runtime_env", {}),
        ("runtime_env", {"env_vars": {"A": "b"}, "working_dir": "/", "config": {}}),
        ("runtime_env", {"py_modules": ["/usr"], "excludes": ["x"], "pip": None}),
        ("max_calls", None),
        ("max_calls", 7),
        ("scheduling_strategy", "SPREAD"),
        ("placement_group", "default"),
        ("placement_group_bundle_index", -1),
        ("label_selector", {}),
        ("accelerator_type", None),
        ("max_calls", 0),
        ("_metadata", {"job": {"a": 1}}),
        ("_labels", {"a": "b"}),
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
        ("_generator_backpressure_num_objects", 0, ValueError),
        ("_generator_backpressure_num_objects", 1.5, TypeError),
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
        ("num_gpus", -1, ValueError),
        ("num_gpus", 1.5, ValueError),
        ("num_gpus", 0.00001, ValueError),
        ("num_gpus", "1", TypeError),
        ("memory", -1, ValueError),
        ("memory", 2**61, ValueError),
        ("memory", float("nan"), ValueError),
        ("memory", "1G", TypeError),
        ("resources", [("special", 1)], TypeError),
        ("resources", {1: 1}, TypeError),
        ("resources", {"special": "1"}, TypeError),
        ("resources", {"special": -1}, ValueError),
        ("resources", {"special": 0.00001}, ValueError),
        ("resources", {"CPU": 1}, ValueError),
        ("resources", {"GPU": 1}, ValueError),
        ("accelerator_type", 4, TypeError),
        ("scheduling_strategy", "RANDOM", ValueError),
        ("scheduling_strategy", 3, TypeError),
        ("placement_group", "other", TypeError),
        ("placement_group_bundle_index", None, TypeError),
        ("placement_group_capture_child_tasks", 1, TypeError),
        ("label_selector", "a", TypeError),
        ("label_selector", {"a b": "c"}, ValueError),
        ("label_selector", {"a": "in(b"}, ValueError),
        ("label_selector", {"a": 3}, ValueError),
        ("fallback_strategy", {"a": "b"}, TypeError),
        ("fallback_strategy", [{"other": {}}], ValueError),
        ("runtime_env", {"pip": ["x"]}, NotSupportedError),
        ("runtime_env", [], TypeError),
        ("runtime_env", ["x"], TypeError),
        ("runtime_env", {"env_var": {}}, ValueError),
        ("runtime_env", {1: {}}, ValueError),
        ("runtime_env", {"env_vars": ["A"]}, TypeError),
        ("runtime_env", {"env_vars": {"A": 1}}, TypeError),
        ("runtime_env", {"env_vars": {1: "A"}}, TypeError),
        ("runtime_env", {"env_vars": {"A=B": "c"}}, ValueError),
        ("runtime_env", {"env_vars": {"A": "c\0d"}}, ValueError),
        ("runtime_env", {"env_vars": {"A": "\ud8ff"}}, ValueError),
        ("runtime_env", {"working_dir": 3}, TypeError),
        ("runtime_env", {"working_dir": "/no/such/folder"}, ValueError),
        ("runtime_env", {"working_dir": "s3://bucket/a.zip"}, NotSupportedError),
        ("runtime_env", {"py_modules": "a"}, TypeError),
        ("runtime_env", {"py_modules": [3]}, TypeError),
        ("runtime_env", {"py_modules": ["/etc/passwd"]}, ValueError),
        ("runtime_env", {"py_modules": ["https://a/b.whl"]}, NotSupportedError),
        ("runtime_env", {"excludes": "a"}, TypeError),
        ("runtime_env", {"config": 3}, TypeError),
        ("runtime_env", {"config": {"setup_timeout_seconds": 0}}, ValueError),
        *(
            ("runtime_env", {key: "x"}, NotSupportedError)
            for key in ("conda", "uv", "container", "image_uri", "py_executable", "_nsight")
        ),
        ("scheduling_strategy", Foreign(), TypeError),
        ("max_calls", -1, ValueError),
        ("max_calls", 1.5, TypeError),
        ("max_calls", True, TypeError),
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


def test_resources_that_have_options_of_their_own_are_told_which() -> None:
    with pytest.raises(ValueError, match=r"use the 'num_cpus' keyword instead of 'CPU'"):
        check_options({"resources": {"CPU": 1}})
    with pytest.raises(ValueError, match=r"use the 'num_gpus' keyword instead of 'GPU'"):
        check_options({"resources": {"GPU": 1}})


def test_a_group_is_named_in_one_way_only() -> None:
    given = {"placement_group": PlacementGroup.empty(), "scheduling_strategy": "SPREAD"}
    with pytest.raises(ValueError, match="placement_group and scheduling_strategy"):
        check_options(given)


def test_what_is_asked_for_is_gathered_by_name() -> None:
    given = {"num_gpus": 0.5, "memory": 7, "resources": {"x": 2}, "accelerator_type": "A100"}
    options = task_options(given, "f")
    assert options.resources == {"GPU": 0.5, "memory": 7, "x": 2, "accelerator_type:A100": 0.001}
    assert not options.is_plain
    assert task_options({"num_gpus": 0, "resources": {"x": 0}}, "f").is_plain


LABELS = {"zone": "a", "disk": "ssd"}


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ({}, True),
        ({"zone": "a"}, True),
        ({"zone": "b"}, False),
        ({"zone": "!b"}, True),
        ({"zone": "!a"}, False),
        ({"zone": "in(b, a)"}, True),
        ({"zone": "in(b,c)"}, False),
        ({"zone": "!in(b,c)"}, True),
        ({"zone": "!in(a,c)"}, False),
        ({"other": "a"}, False),
        ({"other": "!a"}, True),
        ({"zone": "a", "disk": "hdd"}, False),
    ],
)
def test_label_selectors_fit_a_node_or_not(selector: dict[str, str | None], fits: bool) -> None:
    assert fits_selector(selector, LABELS) is fits


@pytest.mark.parametrize(
    ("hard", "fits"),
    [
        ({"zone": In("a", "b")}, True),
        ({"zone": In("b")}, False),
        ({"other": In("a")}, False),
        ({"zone": NotIn("b")}, True),
        ({"zone": NotIn("a")}, False),
        ({"other": NotIn("a")}, True),
        ({"zone": Exists()}, True),
        ({"other": Exists()}, False),
        ({"other": DoesNotExist()}, True),
        ({"zone": DoesNotExist()}, False),
        ({"zone": Exists(), "disk": In("hdd")}, False),
    ],
)
def test_label_expressions_match_a_node_or_not(hard: dict[str, Any], fits: bool) -> None:
    assert matches(NodeLabelSchedulingStrategy(hard), LABELS) is fits


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: In(),
        lambda: NotIn(3),  # type: ignore[arg-type]
        lambda: NodeLabelSchedulingStrategy({}),
        lambda: NodeLabelSchedulingStrategy({"a": "b"}),  # type: ignore[dict-item]
        lambda: NodeLabelSchedulingStrategy({3: Exists()}),  # type: ignore[dict-item]
        lambda: NodeLabelSchedulingStrategy([]),  # type: ignore[arg-type]
        lambda: NodeAffinitySchedulingStrategy("no hex", soft=False),
        lambda: NodeAffinitySchedulingStrategy("ab", soft=False),
        lambda: NodeAffinitySchedulingStrategy("ff" * 28, soft=False),
        lambda: NodeAffinitySchedulingStrategy("ab" * 28, False, _spill_on_unavailable=True),
        lambda: NodeAffinitySchedulingStrategy("ab" * 28, True, _fail_on_unavailable=True),
    ],
)
def test_strategies_that_mean_nothing_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        wrong()
