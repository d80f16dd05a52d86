"""Options of actors and of calls: which there are, what each may be, what a checked set means."""

from __future__ import annotations

from plasmid import options
from plasmid.engine.base import ActorOptions
from plasmid.exceptions import NotSupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from plasmid.actor_methods import Methods

__all__ = ["actor_options", "check_call_options", "check_options"]

ASYNC_CONCURRENCY = 1000
"""Calls that an asynchronous actor runs at a time, unless it says otherwise."""

MOST_THREADS = 10_000


def actor_options(given: dict[str, Any], methods: Methods) -> tuple[ActorOptions, dict[str, Any]]:
    """What the checked options `given` say of an actor with these methods; and its card, as far as
    its class goes. ValueError for what does not go together."""

    def value(name: str, default: Any) -> Any:
        found = given.get(name)
        return default if found is None else found

    groups = dict(value("concurrency_groups", {}))
    concurrency = value("max_concurrency", ASYNC_CONCURRENCY if methods.is_async else 1)
    at_once = methods.is_async or concurrency > 1 or bool(groups)
    unordered = value("allow_out_of_order_execution", at_once)
    if at_once and not unordered:
        raise ValueError(
            "allow_out_of_order_execution=False is for actors that run one call at a time: this "
            "one is asynchronous, has max_concurrency > 1 or concurrency groups"
        )
    task = options.task_options(
        {**{name: given[name] for name in given if name in _OF_TASKS}, "num_cpus": 0}
        if given.get("num_cpus") is None
        else {name: given[name] for name in given if name in _OF_TASKS},
        methods.class_name,
    )
    methods = methods.with_options(value("max_task_retries", 0), groups)
    for name in methods.by_name:
        methods.find(name)  # a group that was not declared
    card = {
        "class_name": methods.class_name,
        "methods": methods.packed,
        "is_async": methods.is_async,
        "max_concurrency": max(1, concurrency),
        "groups": groups,
    }
    lifetime = value("lifetime", None)
    return (
        ActorOptions(
            task,
            name=value("name", ""),
            namespace=value("namespace", ""),
            is_detached=lifetime == "detached",
            max_restarts=value("max_restarts", 0),
            most_calls=max(0, value("max_pending_calls", 0)),
            is_unordered=unordered,
        ),
        card,
    )


def check_options(given: dict[str, Any]) -> None:
    """Raise what Ray raises for bad options of actors: TypeError, ValueError."""
    for name, value in given.items():
        checker = _CHECKERS.get(name)
        if checker is not None:
            checker(name, value)
        elif name not in _NEUTRAL:
            valid = sorted(_CHECKERS) + sorted(_NEUTRAL)
            raise ValueError(
                f"Invalid option keyword {name} for actors. Valid ones are {', '.join(valid)}."
            )
        elif not options.is_neutral(value, _NEUTRAL[name]):
            raise NotSupportedError(f"option {name}={value!r} is not supported for actors")
    if given.get("get_if_exists") and not given.get("name"):
        raise ValueError("The actor name must be specified to use `get_if_exists`.")


def check_call_options(given: dict[str, Any]) -> None:
    """The same of calls."""
    for name, value in given.items():
        checker = _CALL_CHECKERS.get(name)
        if checker is None:
            raise TypeError(
                f"{name!r} is not an option of actors' methods. Valid are: "
                f"{', '.join(sorted(_CALL_CHECKERS))}."
            )
        checker(name, value)


def _count(least: int, most: int = options.MOST_RETRIES) -> Callable[[str, Any], None]:
    def check(name: str, value: Any) -> None:
        if value is None:
            return
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(
                f"The type of keyword '{name}' must be a whole number or None, not {value!r}"
            )
        if not least <= value <= most:
            raise ValueError(f"option {name} must be from {least} to {most}, got {value!r}")

    return check


def _lifetime(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"The type of keyword '{name}' must be a string or None, not {value!r}")
    if value not in (None, "detached", "non_detached"):
        raise ValueError(f"option {name} must be 'detached', 'non_detached' or None, not {value!r}")


def _namespace(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"The type of keyword '{name}' must be a string or None, not {value!r}")
    if value == "":
        raise ValueError(f'option {name}: "" is not a valid namespace')


def _flag(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"The type of keyword '{name}' must be a bool or None, not {value!r}")


def _groups(name: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, dict):
        raise TypeError(f"option {name} must be a dict of numbers by name, not {value!r}")
    for group, limit in value.items():
        if not isinstance(group, str):
            raise TypeError(f"option {name}: a group's name must be a string, not {group!r}")
        _count(1, MOST_THREADS)(f"{name}: {group}", limit)


def _group(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"The type of keyword '{name}' must be a string or None, not {value!r}")


_OF_TASKS = (
    "num_cpus",
    "num_gpus",
    "memory",
    "resources",
    "accelerator_type",
    "scheduling_strategy",
    "placement_group",
    "placement_group_bundle_index",
    "placement_group_capture_child_tasks",
    "label_selector",
    "fallback_strategy",
    "runtime_env",
    "enable_task_events",
    "_metadata",
    "_labels",
)

_CHECKERS: dict[str, Callable[[str, Any], None]] = {
    **{name: options.checker(name) for name in _OF_TASKS},
    "name": options.checker("name"),
    "namespace": _namespace,
    "lifetime": _lifetime,
    "get_if_exists": _flag,
    "max_restarts": _count(-1),
    "max_task_retries": _count(-1),
    "max_pending_calls": _count(-1),
    "max_concurrency": _count(0, MOST_THREADS),
    "concurrency_groups": _groups,
    "allow_out_of_order_execution": _flag,
}

_NEUTRAL: dict[str, tuple[object, ...]] = {
    "object_store_memory": (None,),
    "enable_tensor_transport": (None, False),
}

_CALL_CHECKERS: dict[str, Callable[[str, Any], None]] = {
    "num_returns": options.checker("num_returns"),
    "name": options.checker("name"),
    "concurrency_group": _group,
    "max_task_retries": _count(-1),
    "retry_exceptions": options.checker("retry_exceptions"),
    "enable_task_events": options.checker("enable_task_events"),
    "_generator_backpressure_num_objects": options.checker("_generator_backpressure_num_objects"),
    "_num_objects_per_yield": lambda name, value: None,
    "tensor_transport": lambda name, value: None,
}
