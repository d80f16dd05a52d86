"""Exceptions that arrive whatever they carry.

An exception arrives with its class, args, attributes, notes and chain. What of these cannot be
pickled is replaced by its text, and an exception whose class cannot be had is an OpaqueError.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from . import by_value
from .recipe import reduce_exception


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
        partial(reduce_exception, chain=True),
        partial(reduce_exception, chain=True, keep=_what_pickles),
        partial(reduce_exception, keep=_what_pickles),
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
            self.reduce_exception = reduce

    return ExceptionPickler


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
