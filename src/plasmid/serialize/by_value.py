"""cloudpickle: functions, and classes and objects that no other process could import."""

from __future__ import annotations

import io
import pickle
import sys
from collections import ChainMap
from collections.abc import Callable
from functools import cache
from types import CodeType
from typing import Any

from .recipe import reduce_exception
from .reducers import reduce_by_base

_FILENAME = 10  # its place among the arguments of types.CodeType
_NAMESPACE = 3  # among those of cloudpickle's class maker


def is_importable(module: str | None) -> bool:
    """Can another process import it, as far as cloudpickle is told; by name alone."""
    if module == "__main__":
        return False
    cloudpickle = sys.modules.get("cloudpickle")
    if cloudpickle is None or module is None:
        return True
    by_value = cloudpickle.list_registry_pickle_by_value()
    return not any(module == name or module.startswith(f"{name}.") for name in by_value)


def pickler(
    file: Any,
    reducers: dict[Any, Any],
    buffer_callback: Any = None,
    last_resort: Callable[[Any], Any] | None = None,
) -> pickle.Pickler:
    """A pickler of protocol 5 that writes what is not importable by value. `last_resort`: a reducer
    for what no other is registered for."""
    made: pickle.Pickler = pickler_type()(file, reducers, buffer_callback, last_resort)
    return made


def dumps(value: Any) -> bytes:
    """Pickle what consists of functions and classes for another process."""
    file = io.BytesIO()
    _function_pickler_type()(file, 5).dump(value)
    return file.getvalue()


def dumps_function(function: Callable[..., Any]) -> bytes:
    """Pickle a function or class for another process; by value unless a module provides it.

    Within a process the same function gives the same bytes as long as what it refers to stays
    the same, so the bytes may be addressed by their content. Arrays it refers to are copied in.
    Raises TypeError naming what the function refers to that cannot be pickled.
    """
    try:
        return dumps(function)
    except Exception as error:
        from . import failure

        raise failure.explain(function, error) from error


def loads_function(data: bytes) -> Callable[..., Any]:
    """The function; raises what importing its modules raises."""
    function: Callable[..., Any] = pickle.loads(data)
    return function


@cache
def _function_pickler_type() -> Any:
    """cloudpickle's, made at first need, with what its versions 3.1 leave out: code keeps the name
    of its file (else a traceback from another process shows no lines), a class its slots (else its
    objects come with a __dict__, and go back to nobody who has none)."""
    import cloudpickle

    theirs = cloudpickle.Pickler.dispatch_table
    reduce_code = theirs[CodeType]
    table = ChainMap({CodeType: lambda code: _named(code, *reduce_code(code))}, theirs)

    class FunctionPickler(cloudpickle.Pickler):  # type: ignore[misc]
        dispatch_table = table

        def reducer_override(self, value: Any) -> Any:
            reduced = super().reducer_override(value)
            if (
                isinstance(value, type)
                and "__slots__" in vars(value)
                and isinstance(reduced, tuple)
                and reduced[0].__name__ == "_make_skeleton_class"
            ):
                return _slotted(value, *reduced)
            return reduced

    return FunctionPickler


def _named(code: CodeType, rebuild: Any, args: tuple[Any, ...]) -> Any:
    at = _FILENAME
    return rebuild, (*args[:at], "".join(code.co_filename), *args[at + 1 :])


def _slotted(cls: type, make: Any, args: tuple[Any, ...], *state: Any) -> Any:
    """How to make a class, its slots among what it is made with; elsewhere they have no effect."""
    at = _NAMESPACE
    with_slots = {**args[at], "__slots__": vars(cls)["__slots__"]}
    return make, (*args[:at], with_slots, *args[at + 1 :]), *state


@cache
def pickler_type() -> Any:
    """The class of pickler(); made at first need, since its base is cloudpickle's."""
    import cloudpickle

    base = _function_pickler_type()

    class ByValuePickler(base):  # type: ignore[misc, valid-type]
        def __init__(
            self, file: Any, reducers: dict[Any, Any], buffer_callback: Any, last_resort: Any
        ) -> None:
            self.last_resort = last_resort
            theirs = base.dispatch_table
            # Before super().__init__: it is there that the C pickler looks for this attribute.
            self.dispatch_table = {**theirs, **reducers, io.TextIOWrapper: _reduce_file}
            super().__init__(file, 5, buffer_callback)

        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, BaseException) and type(value) not in self.dispatch_table:
                return self.reduce_exception(value)
            found = NotImplemented
            if type(value) not in self.dispatch_table:
                found = reduce_by_base(value)
                if found is NotImplemented and self.last_resort is not None:
                    found = self.last_resort(value)
            return super().reducer_override(value) if found is NotImplemented else found

        reduce_exception = staticmethod(reduce_exception)

    def _reduce_file(file: io.TextIOWrapper) -> Any:
        # cloudpickle would store the text of an open file, and hand out a StringIO. What is
        # got must be what was put, so only the standard streams pass, as names.
        if file in (sys.stdout, sys.stderr, sys.stdin):
            return cloudpickle.Pickler.dispatch_table[io.TextIOWrapper](file)
        raise TypeError(f"cannot pickle '_io.{type(file).__name__}' object")

    return ByValuePickler
