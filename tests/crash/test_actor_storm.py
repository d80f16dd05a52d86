"""Actors are killed at random, with those who call them: every call ends, in order, and right.

As in test_kill_storm: the seed is in the name of the test, PLASMID_STORM_SECONDS makes each longer.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from typing import Any

import pytest

import plasmid
from plasmid.exceptions import ActorDiedError, ActorUnavailableError, WorkerCrashedError
from plasmid.util.state import list_actors
from processes import Processes, kill

SECONDS = float(os.environ.get("PLASMID_STORM_SECONDS", "3"))
CALLS = 20


class Counts:
    """Remembers what each caller sent last. Its calls come in order: in one life, one that comes
    after a later one is told."""

    def __init__(self) -> None:
        self.last: dict[int, int] = {}

    def step(self, caller: int, number: int, *given: Any) -> tuple[int, int, bool]:
        in_order = number > self.last.get(caller, -1)
        self.last[caller] = number
        return caller, number, in_order

    def items(self, caller: int, number: int) -> Any:
        for i in range(3):
            yield caller, number + i, True


class Awaits:
    async def step(self, caller: int, number: int, *given: Any) -> tuple[int, int, bool]:
        return caller, number, True

    async def items(self, caller: int, number: int) -> Any:
        for i in range(3):
            yield caller, number + i, True


KINDS = [
    {},
    {"max_restarts": -1},
    {"max_restarts": -1, "max_task_retries": -1},
    {"max_restarts": 3, "max_concurrency": 4},
]


def ends_of(refs: list[tuple[Any, tuple[int, int]]], is_ordered: bool) -> Counter[str]:
    """How calls ended; AssertionError if one ended wrong, GetTimeoutError if one did not."""
    ends: Counter[str] = Counter()
    for ref, sent in refs:
        try:
            *came, in_order = plasmid.get(ref, timeout=60)
        except (ActorDiedError, ActorUnavailableError) as error:
            ends[type(error).__name__] += 1
        else:
            assert tuple(came) == sent
            assert in_order or not is_ordered
            ends["value"] += 1
    return ends


def call(actor: Any, caller: int, first: int, given: Any = None) -> list[tuple[Any, Any]]:
    numbers = range(first, first + CALLS)
    return [(actor.step.remote(caller, n, given), (caller, n)) for n in numbers]


@plasmid.remote(max_retries=0)
def call_all(actors: list[tuple[Any, bool]], caller: int) -> Counter[str]:
    """The same from another process, which may be killed, too."""
    ends: Counter[str] = Counter()
    sent = [(call(actor, caller, 0), is_ordered) for actor, is_ordered in actors]
    for refs, is_ordered in sent:
        ends += ends_of(refs, is_ordered)
    return ends


class Storm:
    """So many actors, and calls of them. One that is dead is replaced."""

    def __init__(self, session: Processes, seed: int, actors: int) -> None:
        self.session = session
        self.random = random.Random(seed)
        self.actors = [self.make() for _ in range(actors)]
        self.ends: Counter[str] = Counter()
        self.callers = 0
        self.over = threading.Event()
        self.kills = 0

    def make(self) -> tuple[Any, bool]:
        options = self.random.choice(KINDS)
        cls = self.random.choice([Counts, Awaits])
        is_ordered = cls is Counts and "max_concurrency" not in options
        return plasmid.remote(cls).options(**options).remote(), is_ordered

    def round(self) -> None:
        chosen = self.random.sample(range(len(self.actors)), min(8, len(self.actors)))
        self.callers += 2
        some = [self.actors[i] for i in chosen]
        others = call_all.remote(some[::2], self.callers)
        given = plasmid.put(bytes(100_000))
        sent = [(call(actor, self.callers + 1, 0, given), order) for actor, order in some]
        streams = [actor.items.remote(1, 7) for actor, _ in some]
        for refs, is_ordered in sent:
            self.ends += ends_of(refs, is_ordered)
        for stream in streams:
            self.ends += ends_of([(ref, (1, 7 + i)) for i, ref in enumerate(stream)], False)
        try:
            self.ends += plasmid.get(others, timeout=60)
        except WorkerCrashedError:
            self.ends["caller killed"] += 1
        for i in chosen:
            self.replace_dead(i)

    def replace_dead(self, i: int) -> None:
        try:
            plasmid.get(self.actors[i][0].step.remote(-1, self.callers), timeout=60)
        except ActorDiedError:
            self.actors[i] = self.make()
        except ActorUnavailableError:
            pass

    def kill_some(self) -> None:
        while not self.over.wait(self.random.choice([0.003, 0.03, 0.1, 0.3])):
            pids = [each.pid for each in list_actors(limit=1000) if each.pid]
            dice = self.random.random()
            if dice < 0.02:
                pids = [self.session.keeper]
            elif dice < 0.04:
                pids = [self.session.nursery()]
            elif dice < 0.2:
                pids = self.session.workers()
            if pids and (pid := self.random.choice(pids)):
                kill(pid)
                self.kills += 1


def storm(session: Processes, seed: int, actors: int, seconds: float) -> None:
    made = Storm(session, seed, actors)
    killer = threading.Thread(target=made.kill_some, daemon=True)
    killer.start()
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            made.round()
    finally:
        made.over.set()
        killer.join()
    session.arena.check()
    assert made.kills
    assert made.ends["value"]
    print(f"{made.kills} kills, {dict(made.ends)}")


@pytest.mark.parametrize("seed", range(2))
def test_actors_are_killed_at_random(session: Processes, seed: int) -> None:
    storm(session, seed, 10, SECONDS)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", range(100, 103))
def test_a_hundred_actors_are_killed_at_random(session: Processes, seed: int) -> None:
    storm(session, seed, 100, max(60.0, SECONDS))
