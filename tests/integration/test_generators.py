"""Remote generator functions: results while they run, pausing, errors, deaths, dropping."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import STORE, Gate, arena, until

import plasmid
from plasmid._raylet import StreamingObjectRefGenerator
from plasmid.engine import current
from plasmid.exceptions import (
    RayTaskError,
    SessionError,
    StreamingGeneratorReplayInconsistentError,
    TaskCancelledError,
    TaskUnschedulableError,
    WorkerCrashedError,
)

pytestmark = pytest.mark.usefixtures("session")

NIL = plasmid.ObjectRef.nil()


@plasmid.remote
def count(n: int) -> Iterator[int]:
    yield from range(n)


@plasmid.remote
def gated(gate: Gate, *values: Any) -> Iterator[Any]:
    """The first value, then, once the gate is open, the others."""
    yield values[0]
    gate.wait()
    yield from values[1:]


@plasmid.remote
def raising(n: int, error: BaseException) -> Iterator[int]:
    yield from range(n)
    raise error


class Log:
    """Lines that tasks write, whichever process they run in."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def write(self, what: object) -> int:
        """The number of lines then."""
        with open(self.path, "a") as file:
            file.write(f"{what}\n")
        return len(self.lines())

    def lines(self) -> list[str]:
        return Path(self.path).read_text().split() if os.path.exists(self.path) else []


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log")


@plasmid.remote
def logged(log: Log, n: int) -> Iterator[int]:
    """Writes down what it is about to yield, and how it ended."""
    try:
        for i in range(n):
            log.write(i)
            yield i
    except GeneratorExit:
        log.write("closed")
        raise
    log.write("end")


def values(generator: Any) -> list[Any]:
    return [plasmid.get(ref) for ref in generator]


# Iterating ---------------------------------------------------------------------------------------


def test_a_generator_function_returns_a_generator_of_references() -> None:
    generator = count.remote(3)
    assert type(generator) is plasmid.ObjectRefGenerator is StreamingObjectRefGenerator
    assert iter(generator) is generator
    refs = list(generator)
    assert all(type(ref) is plasmid.ObjectRef for ref in refs)
    assert plasmid.get(refs) == [0, 1, 2]
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(generator)
    assert plasmid.get(generator.completed()) is None


@pytest.mark.parametrize("n", [0, 1, 1000])
def test_all_items_come_in_order(n: int) -> None:
    assert values(count.options(num_returns="streaming").remote(n)) == list(range(n))


def test_items_come_while_the_task_runs(gate: Gate) -> None:
    generator = gated.remote(gate, "first", "second")
    assert plasmid.get(next(generator)) == "first"
    gate.await_arrivals(1)
    assert generator._next_sync(timeout_s=0) == NIL
    assert generator._next_sync(timeout_s=0.01).is_nil()
    assert not generator.next_ready()
    assert not generator.is_finished()
    gate.open()
    assert plasmid.get(generator._next_sync(timeout_s=-1)) == "second"
    with pytest.raises(StopIteration):
        generator._next_sync(timeout_s=30)
    assert generator.is_finished()
    assert not generator.next_ready()


def test_items_of_every_kind_arrive() -> None:
    inner = plasmid.put("inside")
    array = np.arange(100_000)
    many = [None, b"x" * 5000, {"a": [1, 2]}, array, [inner], "short", array[::2], ValueError("no")]

    @plasmid.remote
    def give(*items: Any) -> Iterator[Any]:
        yield from items

    found = values(give.remote(*many))
    np.testing.assert_array_equal(found[3], array)
    np.testing.assert_array_equal(found[6], array[::2])
    assert plasmid.get(found[4][0]) == "inside"
    assert found[:3] == many[:3]
    assert found[5] == "short"
    assert isinstance(found[7], ValueError)
    assert not found[3].flags.writeable


def test_items_are_arguments_of_other_tasks() -> None:
    @plasmid.remote
    def double(x: int) -> int:
        return 2 * x

    assert plasmid.get([double.remote(ref) for ref in count.remote(20)]) == list(range(0, 40, 2))


def test_several_generators_at_once() -> None:
    generators = [count.remote(50) for _ in range(5)]
    for i in range(50):
        assert plasmid.get([next(generator) for generator in generators]) == [i] * 5


def test_a_generator_is_consumed_by_many_threads_each_item_once() -> None:
    generator = count.remote(2000)

    def take(_: int) -> list[int]:
        return values(generator)

    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(take, range(4)))
    assert sorted(chain(*parts)) == list(range(2000))
    assert all(part == sorted(part) for part in parts)


def test_num_returns_of_a_number_unpacks_a_generator() -> None:
    assert plasmid.get(count.options(num_returns=3).remote(3)) == [0, 1, 2]


def test_items_before_an_exception_are_results() -> None:
    refs = raising.options(num_returns=4).remote(2, KeyError("third"))
    assert plasmid.get(refs[:2]) == [0, 1]
    for ref in refs[2:]:
        with pytest.raises(KeyError, match="third"):
            plasmid.get(ref)


def test_another_number_of_items_is_an_error() -> None:
    few = count.options(num_returns=3).remote(2)
    assert plasmid.get(few[:2]) == [0, 1]
    with pytest.raises(ValueError, match="num_returns=3, but returned 2 values"):
        plasmid.get(few[2])
    for ref in count.options(num_returns=3).remote(4):
        with pytest.raises(ValueError, match="returned more than 3 values"):
            plasmid.get(ref)


def test_what_a_generator_does_not_have() -> None:
    generator = count.remote(1)
    for call in (lambda: generator.send(1), lambda: generator.throw(1), lambda: generator.close()):
        with pytest.raises(NotImplementedError):
            call()
    with pytest.raises(TypeError, match="remote generator function"):
        plasmid.ObjectRefGenerator()


def test_a_generator_cannot_be_pickled_put_or_passed() -> None:
    generator = count.remote(1)
    with pytest.raises(TypeError, match="Pass the references"):
        pickle.dumps(generator)
    with pytest.raises(TypeError, match="Pass the references"):
        plasmid.put(generator)
    with pytest.raises(TypeError, match="Pass the references"):
        count.remote(generator)
    assert plasmid.get(generator) is generator  # as in Ray
    with pytest.raises(TypeError, match="not an ObjectRef"):
        plasmid.get([generator])
    assert values(generator) == [0]


# asyncio -----------------------------------------------------------------------------------------


def test_async_iteration(gate: Gate) -> None:
    async def main() -> list[Any]:
        generator = gated.remote(gate, *range(20))
        found = [await (await generator.__anext__())]
        assert (await generator._next_async(timeout_s=0)).is_nil()
        assert await generator._next_async(timeout_s=0.01) == NIL
        later = asyncio.create_task(generator.__anext__())
        await asyncio.sleep(0)
        gate.open()
        found.append(await (await later))
        found += [await ref async for ref in generator]
        with pytest.raises(StopAsyncIteration):
            await generator.__anext__()
        return found

    assert asyncio.run(main()) == list(range(20))


def test_many_generators_in_one_event_loop() -> None:
    async def one() -> int:
        return sum([await ref async for ref in count.remote(100)])

    async def main() -> list[int]:
        return await asyncio.gather(*(one() for _ in range(6)))

    assert asyncio.run(main()) == [4950] * 6


def test_a_cancelled_await_keeps_nothing_alive(gate: Gate) -> None:
    async def main() -> None:
        generator = gated.remote(gate, 1, 2, 3)
        await generator.__anext__()
        waiting = asyncio.create_task(generator.__anext__())
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())
    gc.collect()
    gate.open()


def test_async_generator_functions_and_async_functions() -> None:
    @plasmid.remote
    async def ticks(n: int, fails: bool = False) -> AsyncIterator[int]:
        for i in range(n):
            await asyncio.sleep(0)
            yield i
        if fails:
            raise KeyError("end")

    @plasmid.remote
    async def total(n: int) -> int:
        return sum([await ref async for ref in ticks.remote(n)])

    assert values(ticks.remote(5)) == [0, 1, 2, 3, 4]
    assert plasmid.get(ticks.options(num_returns=3).remote(3)) == [0, 1, 2]
    assert values(plasmid.get(ticks.options(num_returns="dynamic").remote(3))) == [0, 1, 2]
    assert values(ticks.options(_generator_backpressure_num_objects=1).remote(5)) == list(range(5))
    assert plasmid.get(total.remote(10)) == 45
    with pytest.raises(KeyError):
        values(ticks.remote(2, fails=True))


def test_the_loop_of_an_async_generator_goes_on_while_it_pauses(log: Log) -> None:
    @plasmid.remote(_generator_backpressure_num_objects=1)
    async def f() -> AsyncIterator[int]:
        async def beside() -> None:
            log.write("beside")

        yield 0
        other = asyncio.create_task(beside())
        yield 1
        await other

    generator = f.remote()
    next(generator)
    until(lambda: log.lines() == ["beside"])
    assert values(generator) == [1]


# wait --------------------------------------------------------------------------------------------


def test_wait_for_generators_and_references(gate: Gate) -> None:
    there, slow = plasmid.put(1), gated.remote(gate, 1, 2)
    next(slow)
    assert plasmid.wait([slow, there]) == ([there], [slow])
    assert plasmid.wait([slow], timeout=0) == ([], [slow])
    assert plasmid.wait([slow], timeout=0.01) == ([], [slow])
    assert plasmid.wait([slow, there], num_returns=2, timeout=0.01) == ([there], [slow])
    gate.open()
    assert plasmid.wait([slow, there], num_returns=2) == ([slow, there], [])
    assert plasmid.get(next(slow)) == 2
    assert plasmid.wait([slow]) == ([slow], [])
    with pytest.raises(StopIteration):  # ready is also what has ended
        next(slow)
    assert plasmid.wait([slow], timeout=0) == ([slow], [])


def test_wait_drains_generators_as_they_come() -> None:
    left: list[Any] = [count.remote(30) for _ in range(4)]
    found: list[int] = []
    while left:
        (ready,), _ = plasmid.wait(left)
        try:
            found.append(plasmid.get(next(ready)))
        except StopIteration:
            left.remove(ready)
    assert sorted(found) == sorted([*range(30)] * 4)


def test_wait_refuses_what_it_refuses_of_references() -> None:
    generator = count.remote(1)
    with pytest.raises(ValueError, match="more than once"):
        plasmid.wait([generator, generator])
    with pytest.raises(TypeError, match="list of ObjectRefs"):
        plasmid.wait(generator)
    with pytest.raises(TypeError, match="is in it"):
        plasmid.wait([generator, 1])
    with pytest.raises(ValueError, match="num_returns"):
        plasmid.wait([generator], num_returns=2)


# Pausing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3])
def test_a_task_pauses_while_so_many_items_are_not_taken(log: Log, limit: int) -> None:
    generator = logged.options(_generator_backpressure_num_objects=limit).remote(log, 10)
    for taken in range(10 - limit):
        made = limit + taken
        until(lambda made=made: len(log.lines()) == made)
        assert not plasmid.wait([generator.completed()], timeout=0.005)[0]
        assert len(log.lines()) == made
        assert plasmid.get(next(generator)) == taken
    assert values(generator) == list(range(10 - limit, 10))
    assert log.lines()[-1] == "end"


def test_a_pausing_task_lends_its_cpu() -> None:
    paused = [count.options(_generator_backpressure_num_objects=1).remote(3) for _ in range(4)]
    assert [plasmid.get(next(generator)) for generator in paused] == [0] * 4
    assert values(count.remote(2)) == [0, 1]
    assert [values(generator) for generator in paused] == [[1, 2]] * 4


def test_without_a_limit_a_task_runs_ahead(log: Log) -> None:
    generator = logged.remote(log, 100)
    plasmid.get(generator.completed())
    assert len(log.lines()) == 101
    assert values(generator) == list(range(100))


def test_dropping_the_generator_ends_a_pause(log: Log) -> None:
    generator = logged.options(_generator_backpressure_num_objects=2).remote(log, 100)
    until(lambda: len(log.lines()) == 2)
    del generator
    until(lambda: log.lines() == ["0", "1", "closed"])


# Errors ------------------------------------------------------------------------------------------


def test_what_a_generator_raises_is_its_last_item() -> None:
    generator = raising.remote(2, ValueError("in the middle"))
    assert plasmid.get(next(generator)) == 0
    assert plasmid.get(next(generator)) == 1
    last = next(generator)
    with pytest.raises(ValueError, match="in the middle") as caught:
        plasmid.get(last)
    assert isinstance(caught.value, RayTaskError)
    with pytest.raises(StopIteration):
        next(generator)
    assert plasmid.get(generator.completed()) is None  # as in Ray: nothing unexpected happened


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration("x")])
def test_errors_that_end_programs_are_items_too(error: BaseException) -> None:
    generator = raising.remote(1, error)
    assert plasmid.get(next(generator)) == 0
    with pytest.raises(RayTaskError):
        plasmid.get(next(generator))
    with pytest.raises(StopIteration):
        next(generator)


def test_an_item_that_cannot_be_pickled_is_named() -> None:
    @plasmid.remote
    def f() -> Iterator[Any]:
        yield 1
        yield threading.Lock()

    generator = f.remote()
    next(generator)
    with pytest.raises(TypeError, match=r"item 2 of f\(\)"):
        plasmid.get(next(generator))
    with pytest.raises(StopIteration):
        next(generator)


def test_an_argument_that_failed_is_what_comes_instead_of_items() -> None:
    @plasmid.remote
    def fails() -> None:
        raise KeyError("cause")

    generator = count.remote(fails.remote())
    with pytest.raises(KeyError, match="cause"):
        plasmid.get(next(generator))
    with pytest.raises(StopIteration):
        next(generator)
    with pytest.raises(KeyError, match="cause"):
        plasmid.get(generator.completed())


def test_raising_is_retried_on_request_and_goes_on_after_what_was_yielded(log: Log) -> None:
    @plasmid.remote(retry_exceptions=True, max_retries=2)
    def f(log: Log) -> Iterator[tuple[int, int]]:
        attempt = log.write("begin")
        for i in range(4):
            if i == 2 and attempt < 3:
                raise OSError("again")
            yield i, attempt

    assert values(f.remote(log)) == [(0, 1), (1, 1), (2, 3), (3, 3)]
    with pytest.raises(OSError, match="again"):
        values(f.options(max_retries=1).remote(Log(Path(log.path + "2"))))


def test_options_are_checked() -> None:
    def plain() -> int:
        return 1

    for returns in ("streaming", "dynamic"):
        with pytest.raises(ValueError, match="generator functions"):
            plasmid.remote(num_returns=returns)(plain)
    with pytest.raises(TypeError, match="num_returns"):
        count.options(num_returns="other")
    with pytest.raises(ValueError, match="backpressure"):
        count.options(_generator_backpressure_num_objects=0)
    with pytest.raises(TypeError, match="backpressure"):
        count.options(_generator_backpressure_num_objects="1")
    with pytest.raises(TaskUnschedulableError):
        count.options(num_cpus=100).remote(1)
    assert values(count.options(_generator_backpressure_num_objects=-1).remote(2)) == [0, 1]


# Cancel ------------------------------------------------------------------------------------------


def cancelled(generator: Any) -> None:
    with pytest.raises(TaskCancelledError):
        plasmid.get(next(generator))
    with pytest.raises(StopIteration):
        next(generator)
    with pytest.raises(TaskCancelledError):
        plasmid.get(generator.completed())


def test_a_running_generator_is_cancelled(gate: Gate) -> None:
    generator = gated.remote(gate, 1, 2)
    assert plasmid.get(next(generator)) == 1
    gate.await_arrivals(1)
    plasmid.cancel(generator)
    cancelled(generator)


def test_a_generator_that_pauses_is_cancelled() -> None:
    generator = count.options(_generator_backpressure_num_objects=1).remote(10)
    plasmid.wait([generator])
    plasmid.cancel(generator)
    assert plasmid.get(next(generator)) == 0
    cancelled(generator)


def test_an_async_generator_that_pauses_is_cancelled() -> None:
    @plasmid.remote(_generator_backpressure_num_objects=1)
    async def ticks() -> AsyncIterator[int]:
        for i in range(10):
            yield i

    generator = ticks.remote()
    plasmid.wait([generator])
    plasmid.cancel(generator)
    plasmid.wait([generator.completed()])  # without anything being taken
    assert plasmid.get(next(generator)) == 0
    cancelled(generator)


def test_a_queued_generator_is_cancelled(gate: Gate) -> None:
    busy = [gated.remote(gate, 0) for _ in range(2)]
    gate.await_arrivals(2)
    generator = count.remote(3)
    plasmid.cancel(generator)
    cancelled(generator)
    gate.open()
    assert [values(each) for each in busy] == [[0], [0]]


def test_a_generator_is_cancelled_by_force(gate: Gate) -> None:
    generator = gated.remote(gate, 1, 2)
    assert plasmid.get(next(generator)) == 1
    gate.await_arrivals(1)
    plasmid.cancel(generator, force=True)
    cancelled(generator)


# "dynamic" ---------------------------------------------------------------------------------------


def test_dynamic_is_one_reference_to_all_of_them() -> None:
    found = plasmid.get(count.options(num_returns="dynamic").remote(5))
    assert type(found) is plasmid.DynamicObjectRefGenerator
    assert len(found) == 5
    assert values(found) == [0, 1, 2, 3, 4]
    assert len(found) == 0  # they were taken out, as in Ray

    @plasmid.remote
    def total(refs: Any) -> int:
        return sum(values(refs))

    assert plasmid.get(total.remote(count.options(num_returns="dynamic").remote(10))) == 45


def test_what_a_dynamic_generator_raises_is_its_last_reference() -> None:
    found = plasmid.get(raising.options(num_returns="dynamic").remote(2, KeyError("x")))
    assert len(found) == 3
    refs = list(found)
    assert plasmid.get(refs[:2]) == [0, 1]
    with pytest.raises(KeyError):
        plasmid.get(refs[2])


# Dropping ----------------------------------------------------------------------------------------


def test_dropping_the_generator_closes_the_function(log: Log) -> None:
    @plasmid.remote
    def forever(log: Log) -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            log.write("closed")

    generator = forever.remote(log)
    for _ in range(10):
        next(generator)
    del generator
    until(lambda: log.lines() == ["closed"])


def test_a_generator_dropped_before_its_task_began_is_not_run(gate: Gate, log: Log) -> None:
    busy = [gated.remote(gate, 0) for _ in range(2)]
    gate.await_arrivals(2)
    generator = logged.remote(log, 3)
    del generator
    gate.open()
    assert [values(each) for each in busy] == [[0], [0]]
    until(lambda: arena().stats()["tasks"] == 0)
    assert log.lines() == []


def test_completed_keeps_a_dropped_generator_running_to_its_end(log: Log) -> None:
    generator = logged.remote(log, 2000)
    done = generator.completed()
    del generator
    assert plasmid.get(done) is None
    assert log.lines()[-1] == "end"


def test_what_was_yielded_and_not_taken_goes_with_the_generator(gate: Gate) -> None:
    before = arena().stats()["heap_used"]
    big = np.zeros(1 << 20, dtype=np.uint8)

    @plasmid.remote
    def f(gate: Gate) -> Iterator[Any]:
        for _ in range(10):
            yield big.copy()
        gate.wait()
        yield 1

    generator = f.remote(gate)
    gate.await_arrivals(1)
    assert arena().stats()["heap_used"] >= before + 10 * big.nbytes
    del generator  # its task still runs
    until(lambda: arena().stats()["heap_used"] < before + 3 * big.nbytes)
    gate.open()


def test_many_items_need_no_memory() -> None:
    generator = count.options(_generator_backpressure_num_objects=100).remote(100_000)
    before = arena().stats()["entries"]
    most = 0
    for i, ref in enumerate(generator):
        if i % 1000 == 0:
            assert plasmid.get(ref) == i
            most = max(most, arena().stats()["entries"])
    assert i == 99_999
    assert most <= before + 200


# Nesting -----------------------------------------------------------------------------------------


@plasmid.remote
def relay(depth: int, n: int) -> Iterator[int]:
    """Each level takes from the next and adds one."""
    for ref in relay.remote(depth - 1, n) if depth else count.remote(n):
        yield plasmid.get(ref) + 1


def test_generators_that_take_from_generators() -> None:
    assert values(relay.remote(4, 30)) == list(range(5, 35))


def test_a_task_takes_the_first_item_of_an_endless_generator() -> None:
    @plasmid.remote
    def endless() -> Iterator[int]:
        while True:
            yield 7

    @plasmid.remote
    def first() -> int:
        return plasmid.get(next(endless.remote()))

    assert plasmid.get([first.remote() for _ in range(4)]) == [7] * 4


def test_tasks_that_consume_pausing_generators() -> None:
    @plasmid.remote
    def total(n: int) -> int:
        limited = count.options(_generator_backpressure_num_objects=2)
        return sum(plasmid.get(ref) for ref in limited.remote(n))

    assert plasmid.get([total.remote(n) for n in range(20)]) == [
        n * (n - 1) // 2 for n in range(20)
    ]


def test_a_task_waits_for_generators_and_references() -> None:
    @plasmid.remote
    def drain() -> int:
        left: list[Any] = [count.remote(10) for _ in range(3)]
        found = 0
        while left:
            ready, _ = plasmid.wait(left)
            try:
                found += plasmid.get(next(ready[0]))
            except StopIteration:
                left.remove(ready[0])
        return found

    assert plasmid.get(drain.remote()) == 135


def test_more_nested_generators_than_workers_may_be(no_session: None) -> None:
    """When there can be no more workers, a generator runs to its end below its taker."""
    plasmid.init(num_cpus=1, object_store_memory=STORE)
    assert values(relay.remote(60, 3)) == [61, 62, 63]


# Deaths ------------------------------------------------------------------------------------------


@plasmid.remote
def dying(log: Log, at: int, n: int, deaths: int) -> Iterator[int]:
    """Its worker dies before it yields item `at`, so many times."""
    attempt = log.write("begin")
    for i in range(n):
        if i == at and attempt <= deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        yield i


@pytest.mark.parametrize("at", [0, 1, 50, 99])
def test_a_retry_goes_on_after_what_was_yielded(log: Log, at: int) -> None:
    assert values(dying.remote(log, at, 100, 2)) == list(range(100))
    assert len(log.lines()) == 3


def test_a_worker_killed_while_it_pauses_is_replaced(log: Log) -> None:
    @plasmid.remote(_generator_backpressure_num_objects=2)
    def f(log: Log) -> Iterator[int]:
        log.write(os.getpid())
        yield from range(10)

    generator = f.remote(log)
    found = [plasmid.get(next(generator)) for _ in range(3)]
    os.kill(int(log.lines()[0]), signal.SIGKILL)
    found += values(generator)
    assert found == list(range(10))


def test_without_retries_death_comes_after_the_items(log: Log) -> None:
    generator = dying.options(max_retries=0).remote(log, 3, 10, 1)
    assert plasmid.get([next(generator) for _ in range(3)]) == [0, 1, 2]
    last = next(generator)
    with pytest.raises(WorkerCrashedError, match="SIGKILL"):
        plasmid.get(last)
    with pytest.raises(StopIteration):
        next(generator)
    assert generator.is_finished()
    with pytest.raises(WorkerCrashedError):
        plasmid.get(generator.completed())


def test_a_death_wakes_who_waits_for_an_item(log: Log, gate: Gate) -> None:
    @plasmid.remote(max_retries=0)
    def f(log: Log, gate: Gate) -> Iterator[int]:
        log.write(os.getpid())
        gate.wait()
        yield 1

    generator = f.remote(log, gate)
    gate.await_arrivals(1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, generator)
        os.kill(int(log.lines()[0]), signal.SIGKILL)
        with pytest.raises(WorkerCrashedError):
            plasmid.get(waiting.result())


def test_a_retry_that_yields_less_is_an_error(log: Log) -> None:
    @plasmid.remote
    def f(log: Log) -> Iterator[int]:
        if log.write("begin") == 1:
            yield from range(5)
            os.kill(os.getpid(), signal.SIGKILL)
        yield 0

    generator = f.remote(log)
    assert plasmid.get([next(generator) for _ in range(5)]) == [0, 1, 2, 3, 4]
    with pytest.raises(StreamingGeneratorReplayInconsistentError, match="yielded 1 items, but 5"):
        plasmid.get(next(generator))
    with pytest.raises(StopIteration):
        next(generator)


def test_the_death_of_a_task_that_takes_closes_the_generator(log: Log, gate: Gate) -> None:
    @plasmid.remote
    def forever(log: Log) -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            log.write("closed")

    @plasmid.remote(max_retries=0)
    def take(log: Log) -> None:
        generator = forever.options(_generator_backpressure_num_objects=3).remote(log)
        next(generator)
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(WorkerCrashedError):
        plasmid.get(take.remote(log))
    until(lambda: log.lines() == ["closed"])


def test_the_death_of_a_program_that_takes_closes_the_generator(log: Log) -> None:
    code = """
        import sys, time
        import plasmid
        plasmid.init(address=sys.argv[1])

        @plasmid.remote(_generator_backpressure_num_objects=3)
        def forever(path):
            try:
                while True:
                    yield 1
            finally:
                open(path, "a").write("closed\\n")

        generator = forever.remote(sys.argv[2])
        next(generator)
        print("taken", flush=True)
        time.sleep(1000)
    """
    address = current.engine.address_info()["address"]
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), address, log.path],
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout
        assert program.stdout.readline() == "taken\n"
        program.kill()
    until(lambda: log.lines() == ["closed"])


def test_workers_are_killed_at_random_and_no_item_is_lost_or_repeated(log: Log) -> None:
    @plasmid.remote(max_retries=-1, _generator_backpressure_num_objects=20)
    def f(log: Log, n: int) -> Iterator[int]:
        log.write(os.getpid())
        yield from range(n)

    generators = [f.remote(log, 400) for _ in range(3)]
    for i in range(400):
        if i % 40 == 20:
            pid = int(log.lines()[-1])
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert plasmid.get([next(generator) for generator in generators]) == [i] * 3
    assert [values(generator) for generator in generators] == [[], [], []]
    arena().check()


def test_the_end_of_the_session_ends_waiting(no_session: None, gate: Gate) -> None:
    plasmid.init(num_cpus=1, object_store_memory=STORE)
    generator = gated.remote(gate, 1, 2)
    next(generator)
    gate.await_arrivals(1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, generator)
        plasmid.shutdown()
        with pytest.raises(SessionError):
            waiting.result()
    with pytest.raises(SessionError):
        next(generator)


def test_nil_is_no_reference_to_anything() -> None:
    assert NIL.is_nil()
    assert not plasmid.put(1).is_nil()
    assert NIL.hex() == "ff" * 28
    assert pickle.loads(pickle.dumps(NIL)) == NIL == plasmid.ObjectRef.nil()
    assert hash(NIL) == hash(plasmid.ObjectRef.nil())
    for use in (plasmid.get, lambda ref: plasmid.wait([ref]), count.remote, NIL.future):
        with pytest.raises((plasmid.exceptions.RayError, AttributeError, TypeError)):
            use(NIL) if use is not NIL.future else use()
