"""Exceptions that arrive whatever they carry.

Plain pickling calls `cls(*args)` again on arrival: that fails, or says something else, if the
constructor takes other arguments than those it handed to Exception; one attribute that
cannot be pickled loses the whole exception; cause, context and notes are dropped. Here an
exception arrives with its class, args, attributes, notes and chain. What cannot be pickled is
replaced by its text, and an exception whose class cannot be had arrives as an OpaqueError.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from functools import cache, partial
from typing import Any, TypeAlias

from . import by_value

Keep: TypeAlias = Callable[[Any], Any]


class OpaqueError(Exception):
    """Stands for an exception that could not be rebuilt here.

    type_name  its class, with the module
    text       what str() of it said
    """

    def __init__(self, type_name: str, text: str) -> None:
        super().__init__(type_name, text)
        self.type_name = type_name
        self.text = text

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text}" if self.text else self.type_name


def dump_exception(error: BaseException) -> bytes:
    """The exception as bytes. Always succeeds.

    Tracebacks are not kept: they cannot be pickled; their text is the caller's to send.
    """
    described = (_name_of(type(error)), _text_of(error, str))
    attempts = (
        partial(_reduce, keep=_everything),
        partial(_reduce, keep=_what_pickles),
        partial(_reduce, keep=_what_pickles, chain=False),
    )
    for reduce in attempts:
        try:
            data = _dumps(error, reduce)
            if type(pickle.loads(data)) is type(error):
                return pickle.dumps((*described, data), 5)
        except Exception:
            continue
    return pickle.dumps((*described, None), 5)


def load_exception(data: bytes) -> BaseException:
    """The exception, or an OpaqueError that says what it was."""
    type_name, text, pickled = pickle.loads(data)
    opaque = OpaqueError(type_name, text)
    if pickled is None:
        return opaque
    try:
        error: BaseException = pickle.loads(pickled)
    except Exception as reason:
        opaque.add_note(f"It could not be rebuilt here: {_name_of(type(reason))}: {reason}")
        return opaque
    return error


def _dumps(value: Any, reduce: Callable[[BaseException], Any]) -> bytes:
    file = io.BytesIO()
    _pickler_type()(file, reduce).dump(value)
    return file.getvalue()


@cache
def _pickler_type() -> Callable[..., pickle.Pickler]:
    base = by_value.pickler_type()

    class ExceptionPickler(base):  # type: ignore[misc, valid-type]
        """Reduces exceptions, at any depth inside others, by the function it is given."""

        def __init__(self, file: Any, reduce: Callable[[BaseException], Any]) -> None:
            super().__init__(file, {}, None)
            self.reduce = reduce

        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, BaseException):
                return self.reduce(value)
            return super().reducer_override(value)

    return ExceptionPickler


def _reduce(error: BaseException, keep: Keep, chain: bool = True) -> Any:
    rebuild, args, state = _recipe(error)
    if isinstance(state, dict):
        state = {name: keep(value) for name, value in state.items()}
    links = (error.__cause__, error.__context__) if chain else (None, None)
    whole = (keep(state), *links, error.__suppress_context__)
    return rebuild, tuple(map(keep, args)), whole, None, None, _restore


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


def _everything(value: Any) -> Any:
    return value


def _what_pickles(value: Any) -> Any:
    """The value, or its text if it cannot be pickled."""
    try:
        # Exceptions inside are taken to pass: they are reduced with this same care in their turn.
        pickle.loads(_dumps(value, lambda error: (str, ())))
    except Exception:
        return _text_of(value, repr)
    return value


def _text_of(value: Any, describe: Callable[[Any], str]) -> str:
    try:
        return str(describe(value))
    except Exception as error:
        return f"<{describe.__name__}() failed: {type(error).__name__}>"


def _name_of(cls: type) -> str:
    prefix = "" if cls.__module__ == "builtins" else f"{cls.__module__}."
    return prefix + cls.__qualname__
