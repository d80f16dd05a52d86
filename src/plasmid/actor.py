"""What Ray programs import from `ray.actor`, as far as it makes sense before there are actors:
classes to annotate with, `method` to mark methods with, and look-ups that find nothing."""

from __future__ import annotations

from plasmid.exceptions import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import GenericAlias
    from typing import Any, NoReturn

__all__ = ["ActorClass", "ActorHandle", "exit_actor", "get_actor", "kill", "method"]

_METHOD_OPTIONS = (
    "num_returns",
    "concurrency_group",
    "max_task_retries",
    "retry_exceptions",
    "enable_task_events",
    "tensor_transport",
    "_generator_backpressure_num_objects",
    "_num_objects_per_yield",
)


class _Named:
    """A class of which there are no instances yet."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise UsageError(f"{type(self).__name__} is for annotations, it cannot be made by hand")

    def __class_getitem__(cls, kind: Any) -> GenericAlias:
        from types import GenericAlias

        return GenericAlias(cls, kind)


class ActorHandle(_Named):
    """An actor, for whoever calls its methods."""


class ActorClass(_Named):
    """A class that @remote was applied to."""


def method(*args: Any, **options: Any) -> Any:
    """Options of one method of an actor: @method(num_returns=2), or @method without any.

    They stay on the function, as `__ray_num_returns__` and so on. UsageError for others than Ray's.
    """
    unknown = sorted(options.keys() - set(_METHOD_OPTIONS))
    if unknown or len(args) > 1 or (args and options):
        what = ", ".join(unknown) or "positional arguments beside options"
        raise UsageError(f"method: {what}; valid options are {', '.join(_METHOD_OPTIONS)}")
    if args:
        if not callable(args[0]):
            raise TypeError(f"method: {args[0]!r} is no method")
        return args[0]

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        for name, value in options.items():
            setattr(function, f"__ray_{name.lstrip('_')}__", value)
        return function

    return mark


def get_actor(name: str, namespace: str | None = None) -> ActorHandle:
    """The actor of that name. ValueError if there is none, and there are no actors yet."""
    if namespace is not None and not isinstance(namespace, str):
        raise TypeError(f"get_actor: namespace must be a string or None, not {namespace!r}")
    if namespace == "":
        raise ValueError("get_actor: namespace must not be empty")
    if not name:
        raise ValueError("get_actor: the name must not be empty")
    if not isinstance(name, str):
        raise TypeError(f"get_actor: the name must be a string, not {name!r}")
    raise ValueError(f"get_actor: there is no actor named {name!r}: plasmid has no actors yet")


def list_named_actors(all_namespaces: bool = False) -> list[Any]:
    """The names of all named actors that are alive: none, as there are no actors yet."""
    return []


def kill(actor: Any, *, no_restart: bool = True) -> NoReturn:
    """End an actor. ValueError for anything else, and there are no actors yet."""
    raise ValueError(
        f"kill: {type(actor).__name__} is no actor; tasks are ended by cancel(reference)"
    )


def exit_actor() -> NoReturn:
    """End the actor that calls it. UsageError, a TypeError, elsewhere."""
    raise UsageError("exit_actor: this is not called in an actor")
