"""Scalars of numpy, which most tasks that reduce an array return."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import plasmid
from plasmid._core import core

CODES = "?bBhHiIlLqQefdFD"


def values(code: str) -> list[Any]:
    kind = np.dtype(code)
    if kind.kind == "b":
        return [kind.type(False), kind.type(True)]
    if kind.kind in "iu":
        return [kind.type(np.iinfo(kind).min), kind.type(np.iinfo(kind).max), kind.type(3)]
    return [kind.type(x) for x in (0.0, -0.0, 1.5, np.inf, -np.inf, np.nan, np.finfo(kind).max)]


class Metres(np.float64):
    pass


class Odd:
    __module__ = "numpy"


def same(found: Any, value: Any) -> bool:
    return type(found) is type(value) and found.tobytes() == value.tobytes()


@pytest.mark.parametrize("code", CODES)
def test_put_and_returned(code: str) -> None:
    @plasmid.remote
    def given(value: Any) -> Any:
        return value

    for value in values(code):
        encoded = core.encode(value)
        assert encoded is not None
        assert len(encoded) == 2 + value.itemsize
        assert same(plasmid.get(plasmid.put(value)), value)
        # As numpy pickles it: a long long becomes a long.
        assert plasmid.get(given.remote(value)).tobytes() == value.tobytes()
        assert same(plasmid.get(given.remote(plasmid.put(value))), value)


@pytest.mark.parametrize(
    "value",
    [
        np.longdouble(1.5),
        np.datetime64("2020-01-01"),
        np.timedelta64(5, "s"),
        np.str_("x"),
        np.bytes_(b"x"),
        np.array((1, 2.5), "i4,f8")[()],
        np.arange(3),
        np.float64,
        np.sin,
    ],
    ids=repr,
)
def test_others_go_the_other_way(value: Any) -> None:
    assert core.encode(value) is None
    found = plasmid.get(plasmid.put(value))
    assert type(found) is type(value)
    assert np.all(found == value)


def test_a_subclass_is_left_to_its_pickle() -> None:
    assert core.encode(Metres(2.5)) is None
    assert plasmid.get(plasmid.put(Metres(2.5))) == 2.5


def test_a_class_that_only_looks_like_one() -> None:
    assert core.encode(Odd()) is None


def test_a_generator_of_them() -> None:
    @plasmid.remote(num_returns="streaming")
    def roots(count: int) -> Any:
        yield from np.sqrt(np.arange(count))

    found = [plasmid.get(ref) for ref in roots.remote(10)]
    assert all(map(same, found, np.sqrt(np.arange(10))))
