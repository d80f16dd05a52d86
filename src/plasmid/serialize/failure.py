"""Which part of a value was it that could not be pickled."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from . import by_value, reducers

_SECONDS = 2.0
_DEPTH = 50
_ATOMS = (type(None), bool, int, float, complex, str, bytes)


def explain(value: Any, error: Exception, last_resort: reducers.Reducer | None = None) -> TypeError:
    """A TypeError whose text is the attribute path to the culprit and why it failed.

    Goes down from `value` into a part that fails by itself, until no part does. Halving the
    parts finds it with about one more pickling of the value per level; the search ends
    after two seconds or fifty levels, with the path so far. `last_resort` as in by_value.pickler.
    """
    path, seen, deadline = "obj", {id(value)}, time.monotonic() + _SECONDS
    attempt = partial(_attempt, last_resort=last_resort)
    keep = [value]  # parts may be made on the fly: an id stays taken while its object lives
    while not _is_recursion(error) and len(keep) < _DEPTH and time.monotonic() < deadline:
        found = _culprit(value, seen, deadline, attempt)
        if found is None:
            break
        name, value, error = found
        path += name
        seen.add(id(value))
        keep.append(value)
    return TypeError(f"{path}: {_reason(value, error)}")


def _culprit(
    value: Any, seen: set[int], deadline: float, attempt: Callable[[Any], Exception | None]
) -> tuple[str, Any, Exception] | None:
    parts = [
        (name, part)
        for name, part in _parts(value)
        if type(part) not in _ATOMS and id(part) not in seen
    ]
    while len(parts) > 1:
        if time.monotonic() > deadline:
            return None
        middle = len(parts) // 2
        failed = attempt([part for _, part in parts[:middle]]) is not None
        parts = parts[:middle] if failed else parts[middle:]
    for name, part in parts:
        error = attempt(part)
        if error is not None:
            return name, part, error
    return None


def can_be_pickled(value: Any) -> bool:
    """Whether nothing in the value refuses to be pickled."""
    return _attempt(value) is None


def _attempt(value: Any, last_resort: reducers.Reducer | None = None) -> Exception | None:
    """Pickle into nothing; the error comes without tracebacks, whose frames would hold it."""
    try:
        table = reducers.table(_reduce_ref)
        by_value.pickler(_Nowhere, table, _Nowhere.write, last_resort).dump(value)
    except Exception as error:
        if error.__cause__ is not None:
            error.__cause__.__traceback__ = None
        return error.with_traceback(None)
    return None


class _Nowhere:
    @staticmethod
    def write(data: Any) -> None:
        """Forget it."""


def _reduce_ref(ref: Any) -> Any:
    return str, ()


def _reason(value: Any, error: Exception) -> str:
    if _is_recursion(error):
        return "nested too deeply to be pickled"
    text = str(error)
    if isinstance(error, TypeError) and text.startswith("cannot pickle"):
        return text
    return f"cannot pickle {type(value).__qualname__!r} object: {type(error).__name__}: {text}"


def _is_recursion(error: BaseException) -> bool:
    return isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What pickling `value` pickles in turn, each with the name by which a user reaches it."""
    if isinstance(value, FunctionType):
        yield from _parts_of_function(value)
    elif isinstance(value, MethodType):
        yield ".__self__", value.__self__
    elif isinstance(value, partial):
        yield from (
            (".func", value.func),
            (".args", value.args),
            (".keywords", value.keywords),
            *_attributes(vars(value)),
        )
    elif isinstance(value, type):
        yield from _attributes(dict(vars(value)))
    elif isinstance(value, dict):
        yield from _items(value.items())
        yield from _attributes(getattr(value, "__dict__", {}))
    elif isinstance(value, list | tuple):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
        yield from _attributes(getattr(value, "__dict__", {}))
    elif isinstance(value, set | frozenset):
        yield from ((f"{{{_short(part)}}}", part) for part in value)
    elif isinstance(value, BaseException):
        yield from ((f".args[{index}]", part) for index, part in enumerate(value.args))
        yield from _attributes(vars(value))
    else:
        yield from _parts_of_object(value)


def _parts_of_function(function: FunctionType) -> Iterator[tuple[str, Any]]:
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f".__closure__[{json.dumps(name)}]", cell.cell_contents
        except ValueError:  # a variable that has no value yet
            continue
    for index, default in enumerate(function.__defaults__ or ()):
        yield f".__defaults__[{index}]", default
    for name, default in (function.__kwdefaults__ or {}).items():
        yield f".__kwdefaults__[{json.dumps(name)}]", default
    yield from _attributes(function.__dict__)
    for name in code.co_names:
        if name in function.__globals__:
            yield f".__globals__[{json.dumps(name)}]", function.__globals__[name]


def _parts_of_object(value: Any) -> Iterator[tuple[str, Any]]:
    try:
        reduced = reducers.reduce_by_base(value)
        if reduced is NotImplemented:
            reduced = value.__reduce_ex__(5)
        if not isinstance(reduced, tuple):
            return
        _, args, state, items, pairs = (*reduced, None, None, None)[:5]
        states = state if isinstance(state, tuple) else (state,)
        attributes = [part for part in states if isinstance(part, dict)]
    except Exception:  # the object itself refuses, so no part of it is to blame
        return
    for part in attributes:
        yield from _attributes(part)
    if state is not None and not attributes:
        yield ".__getstate__()", state
    for index, part in enumerate(args):
        if not isinstance(part, type):
            yield f".__reduce_ex__(5)[1][{index}]", part
    yield from ((f"[{index}]", part) for index, part in enumerate(items or ()))
    yield from _items(pairs or ())


def _attributes(attributes: Any) -> Iterator[tuple[str, Any]]:
    return ((f".{name}", part) for name, part in attributes.items())


def _items(pairs: Any) -> Iterator[tuple[str, Any]]:
    for key, part in pairs:
        yield f"[{_short(key)}]", part
        yield f".keys()[{_short(key)}]", key


def _short(key: Any) -> str:
    if isinstance(key, str):
        return json.dumps(key if len(key) <= 60 else key[:57] + "...", ensure_ascii=False)
    if type(key) in _ATOMS:
        return repr(key)
    return f"<{type(key).__qualname__}>"
