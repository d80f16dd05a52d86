"""When the keeper makes memory ahead."""

from __future__ import annotations

import os

import pytest

from plasmid.runtime.trimming import SETTING
from plasmid.runtime.warming import TO_SPARE, Warmer


class FakeArena:
    """Wants so many pieces."""

    def __init__(self, pieces: int) -> None:
        self.pieces = pieces
        self.made = 0

    @property
    def is_cold(self) -> bool:
        return self.pieces >= 0

    def warm(self) -> int:
        self.pieces -= 1
        self.made += self.pieces >= 0
        return int(self.pieces >= 0)

    def warm_not(self) -> None:
        self.pieces = -1


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


def rounds_of(arena: FakeArena, left: float) -> int:
    """Looks until there is nothing more to do."""
    warmer = Warmer(arena, lambda: left)  # type: ignore[arg-type]
    number = 0
    assert warmer.pauses() == []
    while True:
        warmer.look()
        if warmer.pauses() == []:
            return number
        assert warmer.pauses() == [0.0]
        number += 1


def test_piece_by_piece_until_there_is_enough() -> None:
    arena = FakeArena(3)
    assert rounds_of(arena, TO_SPARE + 1) == 3
    assert arena.made == 3
    assert not arena.is_cold


def test_without_memory_to_spare_it_is_forgotten() -> None:
    arena = FakeArena(3)
    assert rounds_of(arena, TO_SPARE) == 0
    assert arena.made == 0
    assert not arena.is_cold


@pytest.mark.parametrize("why", ["one core", "nothing stays warm"])
def test_not_where_it_is_of_no_use(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    if why == "one core":
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    else:
        monkeypatch.setenv(SETTING, "0")
    arena = FakeArena(3)
    assert rounds_of(arena, float("inf")) == 0
    assert arena.made == 0
    assert not arena.is_cold
