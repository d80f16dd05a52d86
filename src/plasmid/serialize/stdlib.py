"""array.array: its items beside the pickle. Its own pickling makes a bytes object of them first."""

from __future__ import annotations

import pickle
from array import array
from typing import Any

from . import reducers
from .layout import Stream

_OF_TEXT = "uw"  # of these a memoryview cannot be cast


def reduce_array(value: array[Any]) -> Any:
    """An array as type code and items; get copies them, as an array owns its memory."""
    if value.typecode in _OF_TEXT or not value:
        return value.__reduce_ex__(5)
    items = memoryview(value).cast("B")
    return _array, (value.typecode, pickle.PickleBuffer(Stream(items.nbytes, ((0, items),))))


def _array(typecode: str, items: Any) -> array[Any]:
    made: array[Any] = array(typecode)
    made.frombytes(items)
    return made


PLANNERS: dict[type, Any] = {}
LOADERS: dict[int, Any] = {}
reducers.register_reducer(array, reduce_array)
