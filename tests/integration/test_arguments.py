"""What stands directly among the arguments of a task."""

from __future__ import annotations

import enum
from typing import Any

import pytest

import plasmid
from plasmid._core import core


class Level(enum.IntEnum):
    LOW = 1


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize("value", [0, -(2**70), 1.5, True, None, "", "\ud800", b"x"])
def test_plain(value: object) -> None:
    assert core.gather((value,), {}) == ([], [], True)
    assert core.gather((), {"name": value}) == ([], [], True)


@pytest.mark.parametrize("value", [(), [], Level.LOW, Text("x"), bytearray(), 1j, len, int])
def test_not_plain(value: object) -> None:
    assert core.gather((1, value), {}) == ([], [], False)
    assert core.gather((), {"a": 1, "b": value}) == ([], [], False)


def test_references() -> None:
    first, second = plasmid.put(1), plasmid.put(2)
    assert core.gather((0, first, "x", first), {"k": second, "n": 1}) == (
        [first, first, second],
        [1, 3, "k"],
        True,
    )
    assert core.gather((first, [second]), {}) == ([first], [0], False)


def test_wrong_types_are_refused() -> None:
    for args in ((None, {}), ((), None), ([], {})):
        with pytest.raises(TypeError):
            core.gather(*args)  # type: ignore[arg-type]


def test_tasks_without_arguments_share_none() -> None:
    @plasmid.remote(num_cpus=1)
    def grown(*args: Any, **kwargs: Any) -> int:
        kwargs["more"] = 1
        return len(args) + len(kwargs)

    assert plasmid.get([grown.remote() for _ in range(20)]) == [1] * 20
