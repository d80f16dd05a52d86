"""Task options: which there are, what each may be, and what a checked set of them means.

An option that plasmid does not have yet is accepted with values that ask for nothing, so that
programs written for Ray run; with any other value it raises NotSupportedError rather than being
ignored.
"""

from __future__ import annotations

from plasmid.engine.base import TaskOptions
from plasmid.exceptions import NotSupportedError
from plasmid.runtime_env import checked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["check_options", "check_resources", "is_neutral", "task_options"]

# The finest share of a CPU, a GPU or a custom resource that the scheduler counts.
UNITS = 10_000

MOST_UNITS = 1_000_000
MOST_BYTES = 2**60
MOST_RETURNS = 1_000_000
MOST_RETRIES = 2**31 - 1


def task_options(
    given: dict[str, Any], default_name: str, *, is_generator: bool = False
) -> TaskOptions:
    """What the checked options `given` say. None, like no option, means the default.

    ValueError if they ask for the items of what is no generator function.
    """

    def value(name: str, default: Any) -> Any:
        found = given.get(name)
        return default if found is None else found

    retry = value("retry_exceptions", False)
    fallbacks = value("fallback_strategy", [])
    selectors = [value("label_selector", {}), *(each["label_selector"] for each in fallbacks)]
    returns = value("num_returns", "streaming" if is_generator else 1)
    if isinstance(returns, str) and not is_generator:
        raise ValueError(
            f"option num_returns={returns!r} is for generator functions: {default_name}() does not "
            "yield"
        )
    return TaskOptions(
        value("name", default_name),
        num_returns=returns,
        backpressure=max(0, value("_generator_backpressure_num_objects", 0)),
        num_cpus=round(value("num_cpus", 1) * UNITS) / UNITS,
        resources=_resources_of(given),
        strategy=_strategy_of(given),
        selectors=tuple(selectors) if selectors[0] else (),
        max_retries=value("max_retries", 3),
        retry_exceptions=retry if isinstance(retry, bool) else tuple(retry),
        events=value("enable_task_events", True),
        runtime_env=_environment_of(given),
        max_calls=value("max_calls", 1 if given.get("num_gpus") else 0),
    )


def with_paths(given: dict[str, Any]) -> dict[str, Any]:
    """The checked options `given`, of which paths mean the same in every process."""
    if not given.get("runtime_env"):
        return given
    return {**given, "runtime_env": checked(given["runtime_env"], "option runtime_env")}


def _environment_of(given: dict[str, Any]) -> str:
    environment = given.get("runtime_env")
    if not environment:
        return ""
    import json

    return json.dumps(environment, sort_keys=True)


def check_options(given: dict[str, Any]) -> None:
    """Raise what Ray raises for bad options: TypeError, or ValueError (unknown names, too)."""
    for name, value in given.items():
        checker = _CHECKERS.get(name)
        if checker is not None:
            checker(name, value)
        elif name not in _NEUTRAL:
            raise ValueError(_unknown(name))
        elif not is_neutral(value, _NEUTRAL[name]):
            raise NotSupportedError(f"option {name}={value!r} is not supported for tasks")
    if given.get("placement_group") not in (None, "default") and given.get("scheduling_strategy"):
        raise ValueError(
            "options placement_group and scheduling_strategy exclude each other: use "
            "PlacementGroupSchedulingStrategy"
        )


def check_resources(what: str, value: Any) -> None:
    """Raise what Ray raises for a dict of resources by name."""
    if not isinstance(value, dict):
        raise TypeError(f"{what} must be a dict of resources by name, not {value!r}")
    for name, amount in value.items():
        if not isinstance(name, str):
            raise TypeError(f"{what}: a resource's name must be a string, not {name!r}")
        if name in _OWN_OPTIONS:
            raise ValueError(
                f"{what}: use the '{_OWN_OPTIONS[name]}' keyword instead of {name!r} in 'resources'"
            )
        _amount(f"{what}: {name!r}", amount, MOST_UNITS)


def checker(name: str) -> Callable[[str, Any], None]:
    """What raises for a bad value of that option."""
    return _CHECKERS[name]


_OWN_OPTIONS = {
    "CPU": "num_cpus",
    "GPU": "num_gpus",
    "memory": "memory",
    "object_store_memory": "object_store_memory",
}


def _resources_of(given: dict[str, Any]) -> dict[str, float]:
    """What is asked for beside CPUs, by the names of the session's resources."""
    found = {"GPU": given.get("num_gpus"), "memory": given.get("memory")}
    found.update(given.get("resources") or {})
    kind = given.get("accelerator_type")
    if kind is not None:
        found[f"accelerator_type:{kind}"] = 0.001
    return {name: amount for name, amount in found.items() if amount}


def _strategy_of(given: dict[str, Any]) -> Any:
    """The strategy, which may be given in Ray's older options. "SPREAD" asks for nothing on one
    machine; "DEFAULT" says that the group of who submits it is not meant."""
    strategy, group = given.get("scheduling_strategy"), given.get("placement_group", "default")
    if strategy is not None:
        return strategy
    if group is None:
        return "DEFAULT"
    if group == "default":
        return None
    from plasmid.strategies import PlacementGroupSchedulingStrategy

    return PlacementGroupSchedulingStrategy(
        group,
        given.get("placement_group_bundle_index", -1),
        given.get("placement_group_capture_child_tasks"),
    )


def is_neutral(value: object, neutral: tuple[object, ...]) -> bool:
    """Whether `value` is one of `neutral`. Foreign types are not asked: == may be anything."""
    plain = value is None or isinstance(value, (int, float, str, dict, list))
    return plain and value in neutral


def _unknown(name: str) -> str:
    import difflib

    valid = sorted(_CHECKERS) + sorted(_NEUTRAL)
    close = difflib.get_close_matches(name, valid)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    return f"{name!r} is not an option of remote functions.{hint} Valid are: {', '.join(valid)}."


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _amount(what: str, value: Any, most: int) -> None:
    if not _is_int(value) and not isinstance(value, float):
        raise TypeError(f"{what} must be a number or None, not {value!r}")
    if not 0 <= value <= most:
        raise ValueError(f"{what} must be from 0 to {most}, got {value!r}")
    units = value * UNITS
    # The nearest double to a multiple of 0.0001 is off by a relative 2**-53 before the
    # multiplication.
    if abs(units - round(units)) > units * 1e-12:
        raise ValueError(f"{what} must be a multiple of {1 / UNITS}, got {value!r}")


def _num_cpus(name: str, value: Any) -> None:
    if value is not None:
        _amount(f"option {name}", value, MOST_UNITS)


def _num_gpus(name: str, value: Any) -> None:
    _num_cpus(name, value)
    if value is not None and value > 1 and value != int(value):
        raise ValueError(
            f"option {name} must be a part of one GPU or a whole number of them, got {value!r}"
        )


def _memory(name: str, value: Any) -> None:
    if value is None:
        return
    if not _is_int(value) and not isinstance(value, float):
        raise TypeError(f"option {name} must be a number of bytes or None, not {value!r}")
    if not 0 <= value <= MOST_BYTES:
        raise ValueError(f"option {name} must be from 0 to {MOST_BYTES} bytes, got {value!r}")


def _resources(name: str, value: Any) -> None:
    if value is not None:
        check_resources(f"option {name}", value)


def _text(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"option {name} must be a string or None, not {value!r}")


def _scheduling_strategy(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, str):
        if value not in ("DEFAULT", "SPREAD"):
            raise ValueError(
                f"option {name} must be 'DEFAULT', 'SPREAD' or a strategy of "
                f"util.scheduling_strategies, not {value!r}"
            )
        return
    from plasmid import strategies

    kinds = (
        strategies.PlacementGroupSchedulingStrategy,
        strategies.NodeAffinitySchedulingStrategy,
        strategies.NodeLabelSchedulingStrategy,
    )
    if not isinstance(value, kinds):
        raise TypeError(
            f"option {name} must be a string or a strategy of util.scheduling_strategies, not "
            f"{value!r}"
        )


def _placement_group(name: str, value: Any) -> None:
    if value is None or value == "default":
        return
    from plasmid.groups import PlacementGroup

    if not isinstance(value, PlacementGroup):
        raise TypeError(f"option {name} must be a PlacementGroup, None or 'default', not {value!r}")


def _bundle_index(name: str, value: Any) -> None:
    if not _is_int(value):
        raise TypeError(f"option {name} must be a whole number, not {value!r}")


def _label_selector(name: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, dict):
        raise TypeError(f"option {name} must be a dict of strings or None, not {value!r}")
    from plasmid.strategies import check_selector

    wrong = check_selector(value)
    if wrong:
        raise ValueError(f"option {name}: {wrong}")


def _fallback_strategy(name: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, list):
        raise TypeError(f"option {name} must be a list or None, not {value!r}")
    for each in value:
        if not isinstance(each, dict) or list(each) != ["label_selector"]:
            raise ValueError(f"option {name}: each must be a dict with 'label_selector' only")
        _label_selector(name, each["label_selector"] or {})


def _num_returns(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, str) and value in ("dynamic", "streaming"):
        return
    if not _is_int(value):
        raise TypeError(
            f"option {name} must be a whole number, 'streaming', 'dynamic' or None, not {value!r}"
        )
    if not 0 <= value <= MOST_RETURNS:
        raise ValueError(f"option {name} must be from 0 to {MOST_RETURNS}, got {value!r}")


def _backpressure(name: str, value: Any) -> None:
    if value is None:
        return
    if not _is_int(value):
        raise TypeError(f"option {name} must be a whole number or None, not {value!r}")
    if value == 0:
        raise ValueError(
            f"option {name}=0 would not let the task yield at all: 1 makes an item when the one "
            "before is taken, -1 never pauses"
        )


def _max_retries(name: str, value: Any) -> None:
    if value is None:
        return
    if not _is_int(value):
        raise TypeError(f"option {name} must be a whole number or None, not {value!r}")
    if not -1 <= value <= MOST_RETRIES:
        raise ValueError(
            f"option {name} must be -1 (for ever) or from 0 to {MOST_RETRIES}, got {value!r}"
        )


def _retry_exceptions(name: str, value: Any) -> None:
    if isinstance(value, bool):
        return
    if not isinstance(value, (list, tuple)):
        raise TypeError(
            f"option {name} must be a bool or a list of exception classes, not {value!r}"
        )
    for kind in value:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise ValueError(f"option {name}: {kind!r} is not an exception class")


def _name(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"option {name} must be a string or None, not {value!r}")
    if value == "":
        raise ValueError(f"option {name} must not be empty")


def _runtime_env(name: str, value: Any) -> None:
    if value:
        checked(value, f"option {name}")
    elif value is not None and not isinstance(value, dict):
        raise TypeError(f"option {name} must be a dict or None, not {value!r}")


def _max_calls(name: str, value: Any) -> None:
    if value is None:
        return
    if not _is_int(value):
        raise TypeError(f"option {name} must be a whole number or None, not {value!r}")
    if not 0 <= value <= MOST_RETRIES:
        raise ValueError(
            f"option {name} must be 0 (no limit) or up to {MOST_RETRIES}, got {value!r}"
        )


def _dict(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, dict):
        raise TypeError(f"option {name} must be a dict or None, not {value!r}")


def _bool(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"option {name} must be a bool, not {value!r}")


_CHECKERS: dict[str, Callable[[str, Any], None]] = {
    "num_cpus": _num_cpus,
    "num_gpus": _num_gpus,
    "memory": _memory,
    "resources": _resources,
    "accelerator_type": _text,
    "scheduling_strategy": _scheduling_strategy,
    "placement_group": _placement_group,
    "placement_group_bundle_index": _bundle_index,
    "placement_group_capture_child_tasks": lambda name, value: (
        None if value is None else _bool(name, value)
    ),
    "label_selector": _label_selector,
    "fallback_strategy": _fallback_strategy,
    "num_returns": _num_returns,
    "max_retries": _max_retries,
    "retry_exceptions": _retry_exceptions,
    "name": _name,
    "runtime_env": _runtime_env,
    "max_calls": _max_calls,
    "enable_task_events": _bool,
    # For Ray's libraries to note things; nothing reads them.
    "_metadata": _dict,
    "_labels": _dict,
    "_generator_backpressure_num_objects": _backpressure,
}

_NEUTRAL: dict[str, tuple[object, ...]] = {
    "object_store_memory": (None,),
    "_num_objects_per_yield": (None, 1),
}
