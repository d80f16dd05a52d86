"""Serializers that users register for classes of theirs or of libraries.

A value of exactly such a class is stored as what its serializer makes of it, together with the
deserializer: whoever reads it needs no registration. The whole registry can be sent to the
session's other processes, for the values that these store.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

from plasmid.exceptions import ref_types

from . import by_value, failure, reducers

# What the C pickler writes without a look at any table, and what is pickled by name or by value.
_FIXED = {
    *(type(None), bool, int, float, str, bytes, bytearray, tuple, list, dict, set, frozenset, type),
    *(FunctionType, pickle.PickleBuffer),
}

_registered: dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {}


def register(
    cls: type, serializer: Callable[[Any], Any], deserializer: Callable[[Any], Any]
) -> None:
    """Store values of exactly `cls` as deserializer(serializer(value)) from now on, here. TypeError
    for classes of which no pickler asks how."""
    if cls in _FIXED or cls in ref_types:
        raise TypeError(
            f"register_serializer: a {cls.__name__} is always stored in its own way; register a "
            "class derived from it"
        )
    _registered[cls] = serializer, deserializer
    reducers.register_users(cls, partial(_reduce, serializer, deserializer))


def deregister(cls: type) -> None:
    """Store values of `cls` as if nothing had been registered. No effect if nothing was."""
    if _registered.pop(cls, None):
        reducers.deregister_users(cls)


def is_any() -> bool:
    """Whether any serializer is registered here."""
    return bool(_registered)


def export_all() -> bytes:
    """All that is registered here. TypeError names what cannot be pickled."""
    triples = [(cls, *pair) for cls, pair in _registered.items()]
    try:
        return by_value.dumps(triples)
    except Exception as error:
        raise failure.explain(triples, error) from error


def add_all(data: bytes) -> set[type]:
    """Register what was exported; its classes. Raises what importing its modules raises."""
    triples = pickle.loads(data)
    for cls, serializer, deserializer in triples:
        register(cls, serializer, deserializer)
    return {cls for cls, _, _ in triples}


def replace_all(data: bytes) -> None:
    """Have exactly what was exported."""
    for cls in _registered.keys() - add_all(data):
        deregister(cls)


def _reduce(
    serializer: Callable[[Any], Any], deserializer: Callable[[Any], Any], value: Any
) -> tuple[Callable[[Any], Any], tuple[Any]]:
    return deserializer, (serializer(value),)
