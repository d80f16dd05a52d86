"""How to rebuild one exception.

Plain pickling calls `cls(*args)` again on arrival: that fails, or says something else, if the
constructor takes other arguments than those it handed to Exception. So the call is tried out before
it is sent, and gone round if it does not give the same exception.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from plasmid.exceptions import PlasmidError

Keep: TypeAlias = Callable[[Any], Any]


def reduce_exception(error: BaseException, keep: Keep | None = None, chain: bool = False) -> Any:
    """What `__reduce__` would return; `keep` may replace arguments and attributes.

    Cause and context go along only with `chain`, as a part of them may not be picklable. Errors of
    plasmid know themselves what of them travels.
    """
    if isinstance(error, PlasmidError):
        return error.__reduce__()
    rebuild, args, state = _recipe(error)
    if keep is not None:
        args = tuple(map(keep, args))
        if isinstance(state, dict):
            state = {name: keep(value) for name, value in state.items()}
        else:
            state = keep(state)
    links = (error.__cause__, error.__context__) if chain else (None, None)
    return rebuild, args, (state, *links, error.__suppress_context__), None, None, _restore


def _recipe(error: BaseException) -> tuple[Any, tuple[Any, ...], Any]:
    """What gives this exception again: function, arguments, state; tried out before it is sent."""
    attributes = _attributes(error)
    try:
        rebuild, args, state = (*error.__reduce_ex__(5), None)[:3]
        copy = rebuild(*args)
        if type(copy) is type(error) and _equal(copy.args, error.args):
            if state is None or isinstance(state, dict):
                state = {**attributes, **(state or {})}
            return rebuild, args, state
    except Exception:
        pass  # its constructor wants something else than its args: go round it
    return _make, (type(error), *error.args), attributes


def _make(cls: type[BaseException], *args: Any) -> BaseException:
    """An exception with these args, without its class's own constructor."""
    error = cls.__new__(cls, *args)
    builtin: Any = next(base for base in cls.__mro__ if base.__module__ == "builtins")
    builtin.__init__(error, *args)
    return error


def _restore(error: BaseException, state: tuple[Any, ...]) -> None:
    own, error.__cause__, error.__context__, error.__suppress_context__ = state
    error.__setstate__(own)


def _attributes(error: BaseException) -> dict[str, Any]:
    state: Any = object.__getstate__(error)
    parts = state if isinstance(state, tuple) else (state,)
    return {name: value for part in parts if part for name, value in part.items()}


def _equal(some: tuple[Any, ...], others: tuple[Any, ...]) -> bool:
    return len(some) == len(others) and all(
        one is other or bool(one == other) for one, other in zip(some, others, strict=True)
    )
