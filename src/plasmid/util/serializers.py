"""Serializers for classes that pickle does not serve well."""

from __future__ import annotations

from plasmid.engine import current

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["deregister_serializer", "register_serializer"]


def register_serializer(
    cls: type, *, serializer: Callable[[Any], Any], deserializer: Callable[[Any], Any]
) -> None:
    """Store instances of exactly `cls` as `serializer` makes them, and rebuild them by
    `deserializer`.

    The deserializer is stored with each value, so whoever reads one needs no registration. Unlike
    Ray's, the registration holds in the session's other processes, too: in tasks that begin from
    now on, and for sessions that this process starts later. Subclasses keep their own way.

    TypeError if `cls` is no class, or one that pickle never asks about (int, str, list, dict,
    functions, ...), or something cannot be called or pickled.
    """
    if not isinstance(cls, type):
        raise TypeError(f"register_serializer: expected a class, not {cls!r}")
    for name, function in (("serializer", serializer), ("deserializer", deserializer)):
        if not callable(function):
            raise TypeError(f"register_serializer: {name} must be callable, not {function!r}")
    current.engine.register_serializer(cls, serializer, deserializer)


def deregister_serializer(cls: type) -> None:
    """Undo `register_serializer`; no effect if nothing was registered. TypeError if `cls` is no
    class."""
    if not isinstance(cls, type):
        raise TypeError(f"deregister_serializer: expected a class, not {cls!r}")
    current.engine.deregister_serializer(cls)
