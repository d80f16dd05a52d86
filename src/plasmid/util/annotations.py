"""Marks of how stable an API is: `PublicAPI`, `DeveloperAPI`, `Deprecated`.

Each is a decorator with or without arguments. It appends a line to the docstring and notes the kind
in `_annotated_type`; only `Deprecated(warning=True)` changes what a call does.
"""

from __future__ import annotations

import inspect
import warnings
from enum import Enum
from functools import wraps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = [
    "AnnotationType",
    "Deprecated",
    "DeveloperAPI",
    "PublicAPI",
    "RayDeprecationWarning",
]


class AnnotationType(Enum):
    """Kinds of marks."""

    PUBLIC_API = "PublicAPI"
    DEVELOPER_API = "DeveloperAPI"
    DEPRECATED = "Deprecated"
    UNKNOWN = "Unknown"


class RayDeprecationWarning(DeprecationWarning):
    """A call of what is deprecated."""


def PublicAPI(obj: Any = None, *, stability: str = "stable", api_group: str = "Others") -> Any:
    """For users. ValueError if `stability` is not "stable", "beta" or "alpha"."""
    if stability not in ("stable", "beta", "alpha"):
        raise ValueError(f"PublicAPI: stability is stable, beta or alpha, not {stability!r}")
    note = "" if stability == "stable" else f"PublicAPI ({stability}): this may change."
    return _apply(obj, lambda it: _mark(it, AnnotationType.PUBLIC_API, note, api_group))


def DeveloperAPI(obj: Any = None) -> Any:
    """For those who build libraries."""
    note = "DeveloperAPI: this may change from one release to the next."
    return _apply(obj, lambda it: _mark(it, AnnotationType.DEVELOPER_API, note))


def Deprecated(obj: Any = None, *, message: str = "", warning: bool = False) -> Any:
    """To be avoided: `message` says what to use. With `warning` each call of it warns with
    RayDeprecationWarning."""
    note = f"Deprecated: this may go in a later release. {message}".rstrip()

    def apply(it: Any) -> Any:
        _mark(it, AnnotationType.DEPRECATED, note)
        return _warning(it, note) if warning else it

    return _apply(obj, apply)


def _apply(obj: Any, decorator: Callable[[Any], Any]) -> Any:
    return decorator if obj is None else decorator(obj)


def _mark(obj: Any, kind: AnnotationType, note: str, group: str = "Others") -> Any:
    if note:
        obj.__doc__ = f"{inspect.cleandoc(obj.__doc__ or '')}\n\n{note}".lstrip()
    if not isinstance(obj, property):
        obj._annotated = obj.__name__
        obj._annotated_type = kind
        obj._annotated_api_group = group
    return obj


def _warning(obj: Any, note: str) -> Any:
    """`obj`, which warns when it is called."""
    is_class = isinstance(obj, type)
    function: Any = obj.__init__ if is_class else obj

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        warnings.warn(f"{obj.__qualname__}: {note}", RayDeprecationWarning, stacklevel=2)
        return function(*args, **kwargs)

    if not is_class:
        return call
    obj.__init__ = call
    return obj
