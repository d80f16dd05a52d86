"""How long the keeper sleeps."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from plasmid.runtime import keeper


def sleeper(expiry: int) -> keeper.Keeper:
    """A keeper that is asked for its timeout only."""
    made = keeper.Keeper.__new__(keeper.Keeper)
    made._trouble = keeper.Trouble()
    made._stall = keeper.Stall()
    made._timed = (made._stall,)  # type: ignore[assignment]
    made._arena = SimpleNamespace(expiry=expiry)  # type: ignore[assignment]
    return made


def test_without_anything_to_come_it_sleeps_for_ever() -> None:
    assert sleeper(0)._timeout() is None


def test_a_name_that_expired_since_the_loop_looked_is_not_slept_over() -> None:
    """The time ran out between the look and the sleep: 0 left was taken for nothing to wait for,
    and the memory came back with the next event only."""
    assert sleeper(time.monotonic_ns() - 1)._timeout() == 1


def test_an_attempt_that_came_due_since_the_loop_looked_is_not_slept_over() -> None:
    waiting = sleeper(0)
    waiting._trouble.add()
    waiting._trouble._until = 0.0
    assert waiting._timeout() == 1
    waiting._trouble.waiting = False  # it has been made
    assert waiting._timeout() is None


@pytest.mark.parametrize("days", [24, 25, 10_000])
def test_it_sleeps_no_longer_than_poll_can(days: int) -> None:
    pause = sleeper(time.monotonic_ns() + days * 86400 * 10**9)._timeout()
    assert pause is not None
    assert 0 < pause < 2**31


def test_a_stall_lasts_when_nothing_has_moved_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    waiting = sleeper(0)
    stall = waiting._stall

    def later(seconds: float, moved: int | None) -> bool:
        now[0] += seconds
        return stall.lasts(moved)

    assert not later(1, 7)
    assert waiting._timeout() == keeper.STALL_SECONDS * 1000 + 1
    assert not later(keeper.STALL_SECONDS / 2, 7)
    assert not later(keeper.STALL_SECONDS / 2, 8), "a task has started"
    assert later(keeper.STALL_SECONDS, 8)
    assert not later(0, 8), "once"
    assert later(keeper.STALL_SECONDS, 8)
    assert not later(1, None)
    assert waiting._timeout() is None
