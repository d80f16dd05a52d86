"""util.queue.Queue."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from support import arena, until

import plasmid
from plasmid.exceptions import ActorDiedError, GetTimeoutError, WorkerCrashedError
from plasmid.util.queue import Empty, Full, Queue
from plasmid.util.state import list_actors

pytestmark = pytest.mark.usefixtures("session")


def test_items_come_out_in_order() -> None:
    q = Queue()
    for item in range(10):
        q.put(item)
    assert (q.size(), q.qsize(), len(q), q.empty(), q.full()) == (10, 10, 10, False, False)
    assert [q.get() for _ in range(10)] == list(range(10))
    assert q.empty()


def test_without_waiting() -> None:
    q = Queue(maxsize=1)
    with pytest.raises(Empty):
        q.get_nowait()
    with pytest.raises(queue.Empty):
        q.get(block=False)
    q.put_nowait(1)
    assert q.full()
    with pytest.raises(Full):
        q.put_nowait(2)
    with pytest.raises(queue.Full):
        q.put(2, block=False)
    assert q.get_nowait() == 1


def test_waiting_in_vain_loses_nothing() -> None:
    q = Queue(maxsize=1)
    with pytest.raises(Empty):
        q.get(timeout=0.05)
    q.put(1)
    with pytest.raises(Full):
        q.put(2, timeout=0.05)
    assert q.get(timeout=60) == 1
    assert q.empty()


@pytest.mark.parametrize("call", ["put", "get"])
def test_a_negative_timeout_is_refused(call: str) -> None:
    q = Queue()
    with pytest.raises(ValueError, match="non-negative"):
        getattr(q, call)(*(["item"] if call == "put" else []), timeout=-1)
    assert q.empty()


def test_batches_are_all_or_nothing() -> None:
    q = Queue(maxsize=3)
    q.put_nowait_batch([1, 2])
    with pytest.raises(Full, match="2 items do not fit"):
        q.put_nowait_batch([3, 4])
    with pytest.raises(Empty, match="has 2 items, not 3"):
        q.get_nowait_batch(3)
    q.put_nowait_batch(iter([3]))
    assert q.get_nowait_batch(3) == [1, 2, 3]
    assert q.get_nowait_batch(0) == []
    with pytest.raises(TypeError):
        q.put_nowait_batch(1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        q.get_nowait_batch("1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="negative"):
        q.get_nowait_batch(-1)


def test_between_tasks() -> None:
    @plasmid.remote
    def produce(q: Queue, first: int) -> None:
        for item in range(first, first + 50):
            q.put(item)

    @plasmid.remote
    def consume(q: Queue) -> list[int]:
        return [q.get() for _ in range(50)]

    q = Queue(maxsize=5)
    sinks = [consume.remote(q) for _ in range(2)]
    plasmid.get([produce.remote(q, first) for first in (0, 50)], timeout=60)
    first, second = plasmid.get(sinks, timeout=60)
    assert sorted(first + second) == list(range(100))
    for got in (first, second):
        for source in (range(50), range(50, 100)):
            of_one = [item for item in got if item in source]
            assert of_one == sorted(of_one)


def test_many_wait_and_hold_up_nobody() -> None:
    q = Queue(maxsize=1)
    takers = [q.actor.get.remote(None) for _ in range(2000)]
    assert q.empty()
    for item in range(2000):
        q.put(item)
    assert plasmid.get(takers, timeout=60) == list(range(2000))


def test_coroutines() -> None:
    async def both() -> list[Any]:
        q = Queue(maxsize=1)
        got = asyncio.gather(*[q.get_async() for _ in range(5)])
        for item in range(5):
            await q.put_async(item)
        with pytest.raises(Empty):
            await q.get_async(block=False)
        with pytest.raises(Empty):
            await q.get_async(timeout=0.01)
        await q.put_async(1)
        with pytest.raises(Full):
            await q.put_async(1, timeout=0.01)
        return await got

    assert asyncio.run(both()) == list(range(5))


def test_a_reference_arrives_as_its_value_and_arrays_are_not_copied() -> None:
    q = Queue()
    array = np.arange(1_000_000)
    ref = plasmid.put(array)
    before = arena().stats()["heap_used"]
    for _ in range(5):
        q.put(ref)
    for _ in range(5):
        got = q.get()
        assert np.array_equal(got, array)
        assert not got.flags.writeable
    assert arena().stats()["heap_used"] - before < array.nbytes


def test_an_interrupted_get_takes_nothing() -> None:
    q = Queue()
    main = threading.get_ident()
    threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        q.get()
    until(lambda: list_actors(detail=True)[0].pending_calls == 0, "the call is still there")
    q.put(1)
    assert q.get(timeout=60) == 1


def test_a_coroutine_that_is_cancelled_takes_and_adds_nothing() -> None:
    async def in_vain(call: Coroutine[Any, Any, Any]) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call, 0.1)

    q = Queue(maxsize=1)
    asyncio.run(in_vain(q.get_async()))
    q.put(1)
    asyncio.run(in_vain(q.put_async(2)))
    assert q.get(timeout=60) == 1
    until(lambda: list_actors(detail=True)[0].pending_calls == 0, "a call is still there")
    assert q.empty()


def test_nothing_is_lost_to_coroutines_that_are_cancelled_at_any_time() -> None:
    async def take(q: Queue, number: int) -> list[int]:
        taken: list[int] = []
        patience = 0.0
        while len(taken) < number:
            patience = (patience + 0.0003) % 0.003
            task = asyncio.ensure_future(q.get_async())
            await asyncio.sleep(patience)
            task.cancel()
            with suppress(asyncio.CancelledError):
                taken.append(await task)
        return taken

    q = Queue()
    for item in range(100):
        q.put(item)
    assert sorted(asyncio.run(take(q, 100))) == list(range(100))
    assert q.empty()


@plasmid.remote(max_retries=0)
def get_one(q: Queue, pids: Queue) -> Any:
    pids.put(os.getpid())
    return q.get()


def test_nothing_is_taken_for_who_died_while_it_waited() -> None:
    q, pids = Queue(), Queue()
    dead = get_one.remote(q, pids)
    pid = pids.get(timeout=60)
    # Its call is there, first in the line: then it dies, and another one waits behind it.
    until(lambda: sum(each.pending_calls for each in list_actors(detail=True)) == 1, "no call")
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerCrashedError):
        plasmid.get(dead, timeout=60)
    alive = get_one.remote(q, pids)
    pids.get(timeout=60)
    q.put(1)
    assert plasmid.get(alive, timeout=60) == 1
    q.put(2)
    assert q.get(timeout=60) == 2
    assert q.empty()


def test_it_ends_with_its_last_copy_and_by_shutdown() -> None:
    q = Queue()
    q.put(1)
    del q
    until(lambda: list_actors() == [], "the actor lives")
    for force in (False, True):
        q = Queue()
        waiting = q.actor.get.remote(None)
        q.shutdown(force=force, grace_period_s=0.1)
        with pytest.raises(ActorDiedError):
            q.put(1)
        with pytest.raises(ActorDiedError):
            plasmid.get(waiting)


def test_its_death_is_told_to_who_waits() -> None:
    q = Queue(actor_options={"name": "of the queue"})
    waiting = q.actor.get.remote(None)
    with pytest.raises(GetTimeoutError):
        plasmid.get(waiting, timeout=0.1)
    [actor] = list_actors()
    assert actor.name == "of the queue"
    os.kill(actor.pid, signal.SIGKILL)
    with pytest.raises(ActorDiedError):
        plasmid.get(waiting)
    with pytest.raises(ActorDiedError):
        q.get()
