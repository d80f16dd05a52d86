"""Task options: which there are, what each may be, and what a checked set of them means.

An option that plasmid does not have yet is accepted with values that ask for nothing, so that
programs written for Ray run; with any other value it raises NotSupportedError rather than being
ignored.
"""

from __future__ import annotations

from plasmid.engine.base import TaskOptions
from plasmid.exceptions import NotSupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["check_options", "is_neutral", "task_options"]

# The finest share of a CPU that the scheduler counts.
CPU_UNITS = 10_000

MOST_CPUS = 1_000_000
MOST_RETURNS = 1_000_000
MOST_RETRIES = 2**31 - 1


def task_options(given: dict[str, Any], default_name: str) -> TaskOptions:
    """What the checked options `given` say. None, like no option, means the default."""

    def value(name: str, default: Any) -> Any:
        found = given.get(name)
        return default if found is None else found

    retry = value("retry_exceptions", False)
    return TaskOptions(
        value("name", default_name),
        num_returns=value("num_returns", 1),
        num_cpus=round(value("num_cpus", 1) * CPU_UNITS) / CPU_UNITS,
        max_retries=value("max_retries", 3),
        retry_exceptions=retry if isinstance(retry, bool) else tuple(retry),
    )


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


def _num_cpus(name: str, value: Any) -> None:
    if value is None:
        return
    if not _is_int(value) and not isinstance(value, float):
        raise TypeError(f"option {name} must be a number or None, not {value!r}")
    if not 0 <= value <= MOST_CPUS:
        raise ValueError(f"option {name} must be from 0 to {MOST_CPUS}, got {value!r}")
    units = value * CPU_UNITS
    # The nearest double to a multiple of 0.0001 is off by a relative 2**-53 before the
    # multiplication.
    if abs(units - round(units)) > units * 1e-12:
        raise ValueError(f"option {name} must be a multiple of {1 / CPU_UNITS}, got {value!r}")


def _num_returns(name: str, value: Any) -> None:
    if value is None:
        return
    if value in ("dynamic", "streaming"):
        raise NotSupportedError(
            f"option {name}={value!r} is not supported: give the number of results"
        )
    if not _is_int(value):
        raise TypeError(f"option {name} must be a whole number or None, not {value!r}")
    if not 0 <= value <= MOST_RETURNS:
        raise ValueError(f"option {name} must be from 0 to {MOST_RETURNS}, got {value!r}")


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


def _bool(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"option {name} must be a bool, not {value!r}")


_CHECKERS: dict[str, Callable[[str, Any], None]] = {
    "num_cpus": _num_cpus,
    "num_returns": _num_returns,
    "max_retries": _max_retries,
    "retry_exceptions": _retry_exceptions,
    "name": _name,
    "enable_task_events": _bool,
}

_NEUTRAL: dict[str, tuple[object, ...]] = {
    "num_gpus": (None, 0),
    "memory": (None, 0),
    "object_store_memory": (None,),
    "resources": (None, {}),
    "accelerator_type": (None,),
    "runtime_env": (None, {}),
    # On one machine these two say the same.
    "scheduling_strategy": (None, "DEFAULT", "SPREAD"),
    "placement_group": (None, "default"),
    "placement_group_bundle_index": (-1,),
    "placement_group_capture_child_tasks": (None, False),
    "label_selector": (None, {}),
    "fallback_strategy": (None, []),
    "max_calls": (None, 0),
    "_metadata": (None, {}),
    "_labels": (None, {}),
    "_generator_backpressure_num_objects": (None, -1),
    "_num_objects_per_yield": (None, 1),
}
