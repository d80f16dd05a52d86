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
    """cloudpickle's, made at first need, but code keeps the name of its file: since version 3.1.2
    that is taken away, and a traceback from another process would show no lines."""
    import cloudpickle

    theirs = cloudpickle.Pickler.dispatch_table[CodeType]

    def _reduce_code(code: CodeType) -> Any:
        rebuild, args = theirs(code)
        at = _FILENAME
        return rebuild, (*args[:at], "".join(code.co_filename), *args[at + 1 :])

    table = ChainMap({CodeType: _reduce_code}, cloudpickle.Pickler.dispatch_table)
    return type("FunctionPickler", (cloudpickle.Pickler,), {"dispatch_table": table})


@cache
def pickler_type() -> Any:
    """The class of pickler(); made at first need, since its base is cloudpickle's."""
    import cloudpickle

    class ByValuePickler(cloudpickle.Pickler):  # type: ignore[misc]
        def __init__(
            self, file: Any, reducers: dict[Any, Any], buffer_callback: Any, last_resort: Any
        ) -> None:
            self.last_resort = last_resort
            theirs = _function_pickler_type().dispatch_table
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
