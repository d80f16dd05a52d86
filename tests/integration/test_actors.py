"""Actors: order, scope, names, restarts, and random deaths."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest

import plasmid
from plasmid.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    PendingCallsLimitExceeded,
    RayActorError,
)
from plasmid.util.state import list_actors

SECONDS = 60


class Log:
    def __init__(self, *first: Any) -> None:
        self.seen = list(first)

    def add(self, item: Any, *after: Any) -> Any:
        self.seen.append(item)
        return item

    def get(self) -> list[Any]:
        return self.seen

    def pid(self) -> int:
        return os.getpid()

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def log_class(session: Any) -> Any:
    return plasmid.remote(Log)


def get(ref: Any) -> Any:
    return plasmid.get(ref, timeout=SECONDS)


def test_calls_of_one_process_keep_their_order(log_class: Any) -> None:
    log = log_class.remote()

    @plasmid.remote
    def slow(gate: str) -> int:
        while not os.path.exists(gate):
            pass
        return 1

    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        gate = os.path.join(folder, "gate")
        argument = slow.remote(gate)
        refs = [log.add.remote(i, *([argument] if i % 3 == 0 else [])) for i in range(30)]
        ready, _ = plasmid.wait(refs, num_returns=30, timeout=0.05)
        assert ready == []
        open(gate, "w").close()
        assert get(refs) == list(range(30))
    assert get(log.get.remote()) == list(range(30))


def test_queued_calls_survive_a_restart(log_class: Any) -> None:
    log = log_class.options(max_restarts=1, max_task_retries=0).remote("new")
    refs = [log.add.remote(1), log.die.remote(), log.add.remote(2), log.get.remote()]
    assert get(refs[0]) == 1
    with pytest.raises(ActorUnavailableError) as failed:
        get(refs[1])
    assert failed.value.actor_id == log._actor_id.hex()
    assert get(refs[3]) == ["new", 2]
    with pytest.raises(RayActorError):
        get(log.die.remote())
    with pytest.raises(ActorDiedError, match="unexpectedly"):
        get(log.get.remote())


def test_an_actor_ends_with_its_last_handle(log_class: Any) -> None:
    log = log_class.remote()
    pid, last = get(log.pid.remote()), log.add.remote(7)
    pidfd = os.pidfd_open(pid)
    stored = plasmid.put([log])
    del log
    again = get(stored)[0]
    assert get(again.pid.remote()) == pid
    del again, stored
    assert get(last) == 7
    import select

    assert select.select([pidfd], [], [], SECONDS)[0]
    os.close(pidfd)


def test_no_more_calls_than_max_pending_calls(log_class: Any) -> None:
    log = log_class.options(max_pending_calls=2).remote()
    blocker = plasmid.remote(lambda: 1).remote()
    get(blocker)

    @plasmid.remote
    def never() -> None:
        signal.pause()

    argument = never.remote()
    first, second = log.add.remote(1, argument), log.add.remote(2, argument)
    with pytest.raises(PendingCallsLimitExceeded, match="max_pending_calls"):
        log.add.remote(3)
    for ref in (first, second, argument):
        plasmid.cancel(ref, force=ref is argument)


def test_the_state_of_actors(log_class: Any) -> None:
    log = log_class.options(name="one").remote()
    get(log.add.remote(1))
    (found,) = list_actors(detail=True)
    assert (found.class_name, found.state, found.name) == ("Log", "ALIVE", "one")
    assert found.pid == get(log.pid.remote())
    plasmid.kill(log)
    assert list_actors() == []
    with pytest.raises(ValueError, match="one"):
        plasmid.get_actor("one")
    with pytest.raises(ActorDiedError, match="killed"):
        get(log.get.remote())


def test_a_constructor_that_fails_is_the_cause(session: Any) -> None:
    @plasmid.remote
    class Broken:
        def __init__(self) -> None:
            raise RuntimeError("no luck")

        def f(self) -> None: ...

    with pytest.raises(ActorDiedError, match="no luck") as failed:
        get(Broken.remote().f.remote())
    assert failed.value.actor_init_failed


@pytest.mark.parametrize("restarts", [0, -1])
def test_every_call_ends_whoever_is_killed(log_class: Any, restarts: int) -> None:
    chosen = random.Random(restarts)
    kind = log_class.options(max_restarts=restarts, max_task_retries=restarts and 1)
    logs = [kind.remote() for _ in range(6)]
    refs = []
    for round_ in range(6):
        refs += [log.add.remote(round_) for log in logs for _ in range(20)]
        for each in list_actors():
            if each.pid and chosen.random() < 0.4:
                with suppress(ProcessLookupError):  # its last death is not settled yet
                    os.kill(each.pid, signal.SIGKILL)
    ends: Counter[str] = Counter()
    for ref in refs:
        try:
            get(ref)
            ends["value"] += 1
        except RayActorError as error:
            ends[type(error).__name__] += 1
    assert sum(ends.values()) == 720
    if restarts:
        assert ends["ActorDiedError"] == 0
    else:
        assert ends["ActorUnavailableError"] == 0
    for log in logs:
        plasmid.kill(log)


def test_a_detached_actor_outlives_the_program_that_made_it(no_session: None) -> None:
    """In one session: a program that joins makes it, this one finds it."""
    plasmid.init(num_cpus=1, namespace="ours", object_store_memory=1 << 26)
    try:
        address = plasmid.get_runtime_context().gcs_address
        program = f"""
import plasmid
plasmid.init(address={address!r}, namespace="ours")
@plasmid.remote
class Kept:
    def __init__(self): self.n = 41
    def add(self):
        self.n += 1
        return self.n
Kept.options(name="kept", lifetime="detached").remote()
lost = Kept.options(name="lost").remote()
plasmid.get(lost.add.remote())
"""
        subprocess.run([sys.executable, "-c", program], check=True, timeout=SECONDS)
        kept = plasmid.get_actor("kept")
        assert get(kept.add.remote()) == 42
        plasmid.kill(kept)
    finally:
        plasmid.shutdown()
