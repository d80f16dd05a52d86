"""Submitters that die with thousands of queued tasks; a storm of kills among tasks of all kinds.

Every reference ends in the right value or a named error that its task may have, nothing hangs, and
after it the session's fixture finds it whole and empty. PLASMID_STORM_SECONDS makes the storm
longer; --slow adds seeds and minutes.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import plasmid
from plasmid.exceptions import (
    GetTimeoutError,
    PlasmidError,
    TaskCancelledError,
    TaskPlacementGroupRemoved,
    WorkerCrashedError,
)
from plasmid.util import placement_group, remove_placement_group
from plasmid.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from processes import Meeting, Processes, Program, is_alive, kill, until

SECONDS = float(os.environ.get("PLASMID_STORM_SECONDS", "4"))
MANY = 10_000
KILLS = 100


@plasmid.remote
def add(a: int, b: int) -> int:
    return a + b


@plasmid.remote
def stay(meeting: Any) -> int:
    return int(meeting.stay())


# Submitters --------------------------------------------------------------------------------------

SUBMITTER = f"""
plasmid.init(address=sys.argv[1])
kept = plasmid.put(bytes(1000))

@plasmid.remote
def look(data, n, before):
    return len(data) + n

@plasmid.remote
def wait_for(refs):
    return sum(plasmid.get(refs))

refs = [look.remote(kept, 0, None)]
say("begun")
while len(refs) < {MANY}:
    refs.append(look.remote(kept, len(refs), refs[-1] if len(refs) % 3 else None))
    if len(refs) % 1000 == 0:
        refs.append(wait_for.remote(refs[-20:]))
say("queued")
"""


@pytest.mark.parametrize("moment", ["begun", "queued"])
def test_a_program_that_joined_dies_with_ten_thousand_queued_tasks(
    session: Processes, meeting: Meeting, moment: str
) -> None:
    """Its tasks have been accepted: they run, and nothing of them stays."""
    session.await_workers()
    blockers = [stay.remote(meeting) for _ in range(2)]
    for _ in blockers:
        meeting.next()
    program = join(session, SUBMITTER + "\ntime.sleep(600)\n")
    assert program.line() == "begun"
    if moment == "queued":
        assert program.line() == "queued"
        assert session.arena.stats()["tasks"] >= MANY
    kill(program.pid)
    program.process.communicate()
    until(lambda: not guests(session), "its slot is free")
    session.arena.check()
    mine = add.remote(1, 2)
    meeting.release(2)
    assert plasmid.get(mine, timeout=60) == 3
    assert len(plasmid.get(blockers)) == 2
    until(lambda: session.arena.stats()["tasks"] == 0, "no task is left")


def test_a_program_and_all_workers_die_with_ten_thousand_queued_tasks(session: Processes) -> None:
    program = join(session, SUBMITTER + "\ntime.sleep(600)\n")
    assert program.line() == "begun"
    dice = random.Random(1)
    for _ in range(5):
        for pid in session.workers():
            kill(pid)
        time.sleep(dice.random() * 0.02)
    kill(program.pid)
    for pid in session.workers():
        kill(pid)
    program.process.communicate()
    until(lambda: not guests(session), "its slot is free")
    assert plasmid.get(add.remote(1, 2), timeout=60) == 3


@pytest.mark.parametrize("retries", [0, 1])
def test_a_task_dies_with_the_ten_thousand_that_it_has_submitted(
    session: Processes, meeting: Meeting, tmp_path: Path, retries: int
) -> None:
    tried = tmp_path / "tried"

    @plasmid.remote(max_retries=retries)
    def outer(meeting: Any) -> int:
        refs = [add.remote(n, 1) for n in range(MANY)]
        refs += [add.remote(ref, 1) for ref in refs[:100]]
        if not tried.exists():
            tried.touch()
            meeting.stay()
        return sum(plasmid.get(refs))

    session.await_workers()
    blocker = stay.remote(meeting)
    meeting.next()
    ref = outer.remote(meeting)
    pid = meeting.next()
    assert session.arena.stats()["tasks"] > MANY
    kill(pid)
    until(lambda: not is_alive(pid), "it is gone")
    if retries:
        expected = sum(range(1, MANY + 1)) + sum(range(2, 102))
        assert plasmid.get(ref, timeout=60) == expected
    else:
        with pytest.raises(WorkerCrashedError, match="outer"):
            plasmid.get(ref, timeout=60)
    meeting.release()
    plasmid.get(blocker, timeout=60)
    until(lambda: session.arena.stats()["tasks"] == 0, "no task is left")


def join(session: Processes, code: str) -> Program:
    address = session.engine.address_info()["address"]
    return Program(f"sys.argv = ['program', {address!r}]\n" + code)


def guests(session: Processes) -> list[int]:
    from plasmid._core import core

    return [client.pid for client in session.arena.clients() if client.kind == core.GUEST]


# The storm ---------------------------------------------------------------------------------------


@plasmid.remote
def tree(depth: int, width: int, timeout: float | None) -> int:
    if depth == 0:
        return 1
    refs = [tree.remote(depth - 1, width, timeout) for _ in range(width)]
    return sum(plasmid.get(refs, timeout=timeout))


@plasmid.remote
def first_come(n: int) -> list[int]:
    left, found = [add.remote(n, k) for k in range(6)], []
    while left:
        ready, left = plasmid.wait(left, timeout=0.01)
        found += plasmid.get(ready)
    return sorted(found)


@plasmid.remote(max_retries=5, retry_exceptions=[KeyError])
def moody(seed: int) -> int:
    if random.random() < 0.3:
        raise KeyError(seed)
    return seed


@plasmid.remote(max_retries=0)
def fragile(n: int, before: Any) -> int:
    return n


@plasmid.remote(resources={"license": 1}, num_cpus=0.5)
def licensed(n: int, before: Any) -> Any:
    return np.full(30_000, n)


@plasmid.remote
def slow(seconds: float) -> str:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass
    return "done"


@plasmid.remote
def root(n: int) -> int:
    refs = [slow.remote(0.002) for _ in range(n)]
    return len(plasmid.get([*refs, tree.remote(1, n, None)]))


class Load:
    """Submits tasks of every kind; each gives (what to look at, the errors it may have)."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.ended: Counter[str] = Counter()

    def round(self) -> None:
        kinds = [self.chain, self.tree, self.first_come, self.moody, self.fragile]
        kinds += [self.licensed, self.cancelled, self.group, self.impatient]
        started = [self.random.choice(kinds)() for _ in range(self.random.randint(2, 10))]
        for check, allowed in started:
            try:
                check()
            except allowed as error:
                self.ended[type(error).__name__.partition("(")[0]] += 1
            else:
                self.ended["value"] += 1

    def chain(self) -> Any:
        ref: Any = 0
        for n in range(30):
            ref = add.remote(ref, n)
        return self.equal(ref, sum(range(30))), WorkerCrashedError

    def tree(self) -> Any:
        depth, width = self.random.choice([(1, 30), (3, 4), (6, 2), (40, 1)])
        ref = tree.remote(depth, width, self.random.choice([None, 100]))
        return self.equal(ref, width**depth), WorkerCrashedError

    def first_come(self) -> Any:
        return self.equal(first_come.remote(7), list(range(7, 13))), WorkerCrashedError

    def moody(self) -> Any:
        return self.equal(moody.remote(9), 9), (WorkerCrashedError, KeyError)

    def fragile(self) -> Any:
        return self.equal(fragile.remote(2, add.remote(1, 1)), 2), WorkerCrashedError

    def licensed(self) -> Any:
        refs = [licensed.remote(n, add.remote(n, n)) for n in range(4)]

        def check() -> None:
            for n, value in enumerate(plasmid.get(refs, timeout=60)):
                assert (value == n).all()

        return check, WorkerCrashedError

    def cancelled(self) -> Any:
        refs = [root.remote(4), slow.remote(0.002), add.remote(slow.remote(0.002), 1)]
        dice = self.random.random()
        time.sleep(dice * 0.004)
        ref = self.random.choice(refs)
        plasmid.cancel(ref, force=dice < 0.4, recursive=dice < 0.7)
        expected = {refs[0]: 5, refs[1]: "done", refs[2]: None}
        errors = (TaskCancelledError, WorkerCrashedError)

        def check() -> None:
            for each in refs[:2]:
                with suppress(*errors):
                    assert plasmid.get(each, timeout=60) == expected[each]
            with pytest.raises((TypeError, *errors)):  # "done" + 1
                plasmid.get(refs[2], timeout=60)

        return check, errors

    def group(self) -> Any:
        # All of a round together leave a CPU and a license to the others.
        group = placement_group([{"CPU": 0.1, "license": 0.1}])
        strategy = PlacementGroupSchedulingStrategy(group)
        ask = add.options(num_cpus=0.1, scheduling_strategy=strategy)
        refs = [ask.remote(n, n) for n in range(5)]
        removed = self.random.random() < 0.5
        if removed:
            time.sleep(self.random.random() * 0.004)
            remove_placement_group(group)

        def check() -> None:
            try:
                for n, ref in enumerate(refs):
                    assert plasmid.get(ref, timeout=60) == 2 * n
            finally:
                remove_placement_group(group)

        return check, (WorkerCrashedError, *([TaskPlacementGroupRemoved] if removed else []))

    def impatient(self) -> Any:
        ref = tree.remote(3, 3, 60)
        with suppress(GetTimeoutError):
            plasmid.get(ref, timeout=0.001)
        return self.equal(ref, 27), WorkerCrashedError

    @staticmethod
    def equal(ref: Any, expected: Any) -> Callable[[], None]:
        def check() -> None:
            assert plasmid.get(ref, timeout=60) == expected

        return check


class Killer(threading.Thread):
    """Kills a worker every few milliseconds, and keeper or nursery now and then."""

    def __init__(self, session: Processes, seed: int) -> None:
        super().__init__(daemon=True)
        self.session = session
        self.random = random.Random(seed)
        self.over = threading.Event()
        self.workers = self.others = 0

    def run(self) -> None:
        while not self.over.wait(self.random.choice([0.002, 0.01, 0.03, 0.05])):
            dice = self.random.random()
            if dice < 0.01:
                self.others += 1
                kill(self.session.keeper)
            elif dice < 0.02 and (nursery := self.session.nursery()):
                self.others += 1
                kill(nursery)
            elif workers := self.session.workers():
                pid = self.random.choice(workers)
                if dice < 0.1:
                    kill(pid, signal.SIGSTOP)
                    self.over.wait(0.005)
                kill(pid)
                self.workers += 1


def storm(session: Processes, seed: int, seconds: float, kills: int) -> None:
    load, killer = Load(seed), Killer(session, seed)
    deadline = time.monotonic() + seconds
    killer.start()
    try:
        while time.monotonic() < deadline or killer.workers < kills:
            load.round()
    except GetTimeoutError:
        killer.over.set()
        print(session.arena.dump())
        raise
    finally:
        killer.over.set()
        killer.join()
    session.arena.check()
    print(f"{killer.workers} workers killed, {killer.others} others; {dict(load.ended)}")
    assert load.ended["value"]


@pytest.fixture
def licensed_session(session: Processes) -> Processes:
    plasmid.shutdown()
    plasmid.init(num_cpus=2, object_store_memory=1 << 30, resources={"license": 2})
    session.__init__()  # type: ignore[misc]
    return session


@pytest.mark.timeout(200)
@pytest.mark.parametrize("seed", range(2))
def test_a_hundred_workers_are_killed_under_every_kind_of_task(
    licensed_session: Processes, seed: int
) -> None:
    storm(licensed_session, seed, SECONDS, KILLS)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(200, 204))
def test_thousands_of_workers_are_killed(licensed_session: Processes, seed: int) -> None:
    storm(licensed_session, seed, max(60.0, SECONDS), 10 * KILLS)


# Ctrl-C ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["get", "wait"])
def test_ctrl_c_in_the_midst_of_a_storm_leaves_all_usable(
    licensed_session: Processes, call: str
) -> None:
    load, killer = Load(7), Killer(licensed_session, 7)
    interrupted = 0
    killer.start()
    try:
        for n in range(15):
            refs = [tree.remote(3, 3, None), first_come.remote(7), tree.remote(20, 1, 60)]
            timer = threading.Timer(0.001 * (n % 15), os.kill, (os.getpid(), signal.SIGINT))
            try:
                timer.start()
                if call == "get":
                    with suppress(PlasmidError):
                        plasmid.get(refs, timeout=60)
                else:
                    left = refs
                    while left:
                        _, left = plasmid.wait(left, timeout=60)
                timer.join()
                time.sleep(0.01)
            except KeyboardInterrupt:
                interrupted += 1
            timer.join()
            with suppress(WorkerCrashedError):
                load.equal(refs[0], 27)()
            with suppress(WorkerCrashedError):
                load.equal(refs[1], list(range(7, 13)))()
    finally:
        killer.over.set()
        killer.join()
    assert interrupted
    licensed_session.arena.check()


def put_some() -> None:
    refs = [plasmid.put(bytes(size)) for size in (1, 1000, 200_000)]
    assert [len(value) for value in plasmid.get(refs)] == [1, 1000, 200_000]


def submit_some() -> None:
    refs = [add.remote(n, ref) for n, ref in enumerate([1, plasmid.put(2), add.remote(1, 2)])]
    assert plasmid.get(refs) == [1, 3, 5]


def stream_some() -> None:
    assert [plasmid.get(ref) for ref in count_to.remote(20)] == list(range(20))


def call_some() -> None:
    counter = Counter_.remote()
    assert plasmid.get([counter.add.remote() for _ in range(5)]) == [1, 2, 3, 4, 5]


def await_some() -> None:
    async def main() -> list[int]:
        return list(await asyncio.gather(*[add.remote(n, n) for n in range(5)]))

    assert asyncio.run(main()) == [0, 2, 4, 6, 8]


def fill_some() -> None:
    array = plasmid.empty((1000,), dtype="f8")
    array[:] = 1
    assert plasmid.get(plasmid.put(array)).sum() == 1000


@plasmid.remote
def count_to(n: int) -> Any:
    yield from range(n)


@plasmid.remote(num_cpus=0)
class Counter_:
    def __init__(self) -> None:
        self.n = 0

    def add(self) -> int:
        self.n += 1
        return self.n


# An event loop of Python's that is interrupted as it is made or closed says so.
@pytest.mark.filterwarnings("ignore:.*never awaited", "ignore:Exception ignored in")
@pytest.mark.parametrize(
    "use", [put_some, submit_some, stream_some, call_some, await_some, fill_some]
)
def test_ctrl_c_anywhere_leaves_all_usable(session: Processes, use: Callable[[], None]) -> None:
    use()
    interrupted = 0
    for n in range(20):
        timer = threading.Timer(0.001 * n, os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            while timer.is_alive():
                use()
            time.sleep(0.01)
        except KeyboardInterrupt:
            interrupted += 1
        timer.join()
        use()
    assert interrupted >= 15
    session.arena.check()
