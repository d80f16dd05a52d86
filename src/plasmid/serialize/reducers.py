"""How types of ours and of libraries go into a pickle, beyond what copyreg knows.

A reducer is a function (value) -> what `__reduce__` would return, found by the value's exact
type. The table goes to the C pickler, so a value of any other type costs no call into Python.
A base reducer is one for the classes derived from a base that have no reducer of their own; it may
return NotImplemented.
"""

from __future__ import annotations

import copyreg
import pickle
from collections.abc import Callable
from typing import Any, TypeAlias

from plasmid.exceptions import ref_types, user_reducers

from . import sharing
from .layout import Stream

Reducer: TypeAlias = Callable[[Any], Any]

_reducers: dict[type, Reducer] = {}
_base_reducers: dict[type, Reducer] = {}
_version = object()


def register_reducer(cls: type, reducer: Reducer) -> None:
    """Pickle values of exactly this class by `reducer`, in this process, from now on."""
    global _version
    _reducers[cls] = reducer
    _version = object()


def register_users(cls: type, reducer: Reducer) -> None:
    """The same for a reducer that the user wants instead of ours, and of the planner."""
    global _version
    user_reducers[cls] = reducer
    _version = object()


def deregister_users(cls: type) -> None:
    """Forget the user's reducer of `cls`, if there is one."""
    global _version
    user_reducers.pop(cls, None)
    _version = object()


def register_base_reducer(base: type, reducer: Reducer) -> None:
    """Pickle values of classes derived from `base` by `reducer`, unless they have one of theirs."""
    global _version
    _base_reducers[base] = reducer
    _version = object()


def bases() -> tuple[type, ...]:
    """The classes for which reduce_by_base() may have an answer."""
    return tuple(_base_reducers)


def reduce_by_base(value: Any) -> Any:
    """By the reducer of a base of the value's class; NotImplemented if there is none."""
    for base, reducer in _base_reducers.items():
        if issubclass(type(value), base):
            return reducer(value)
    return NotImplemented


def register_ref_type(cls: type) -> None:
    """Make `cls` a class of object references: collected in Plan.refs, stored by position."""
    global _version
    ref_types.add(cls)
    _version = object()


def version() -> object:
    """Another object after each registration, so a kept table knows that it is out of date."""
    return _version


def table(reduce_ref: Reducer) -> dict[Any, Any]:
    """The dispatch table of one pickler, which reduces references in its own way."""
    refs = dict.fromkeys(ref_types, reduce_ref)
    return {**copyreg.dispatch_table, **_reducers, **user_reducers, **refs}


def _reduce_memoryview(view: memoryview) -> Any:
    # Out of band if the memory is in one piece; casting back restores format and shape. Wrapped in
    # a Stream since PickleBuffer(view) crashes CPython when both become garbage of one cycle.
    if not view.c_contiguous and sharing.is_asked(view.nbytes):
        from . import tensor

        array = tensor.shared_array(view)
        if array is not None:
            return memoryview, (array,)
    data = view.cast("B") if view.c_contiguous else memoryview(view.tobytes())
    stream = pickle.PickleBuffer(Stream(view.nbytes, ((0, data),)))
    return _memoryview, (stream, view.format, view.shape)


def _memoryview(data: Any, format: Any, shape: tuple[int, ...]) -> Any:
    view = memoryview(data)
    return view if format == "B" and len(shape) == 1 else view.cast(format, shape)


register_reducer(memoryview, _reduce_memoryview)
