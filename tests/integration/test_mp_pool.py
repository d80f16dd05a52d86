"""util.multiprocessing.Pool; beside the standard library's where both should do the same."""

from __future__ import annotations

import gc
import multiprocessing
import multiprocessing.resource_tracker
import os
import pickle
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import Gate, run_program, until

import plasmid
from plasmid.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    ObjectLostError,
    PoolTerminatedError,
    RayActorError,
)
from plasmid.util.multiprocessing import Pool, TimeoutError
from plasmid.util.state import list_actors

pytestmark = pytest.mark.usefixtures("session")


def square(x: int) -> int:
    return x * x


def add(a: int, b: int = 0) -> int:
    return a + b


def fail_at_3(x: int) -> int:
    if x == 3:
        raise KeyError(x)
    return x


def sleep_if_0(x: int) -> int:
    if x == 0:
        time.sleep(0.5)
    return x


@pytest.fixture(autouse=True, scope="module")
def tracker(session: None) -> Iterator[None]:
    """The standard library's pools leave a process for good."""
    yield
    gc.collect()
    multiprocessing.resource_tracker._resource_tracker._stop()


@pytest.fixture(params=["plasmid", "multiprocessing"])
def pool(request: pytest.FixtureRequest) -> Iterator[Any]:
    made: Any = Pool if request.param == "plasmid" else multiprocessing.get_context("spawn").Pool
    with made(2) as found:
        yield found
    if request.param == "plasmid":
        until(lambda: list_actors() == [], "the pool's processes are gone")


# As the standard library's ----------------------------------------------------------------------


def test_maps(pool: Any) -> None:
    assert pool.map(square, range(100)) == [x * x for x in range(100)]
    assert pool.map(square, iter(range(10)), chunksize=3) == [x * x for x in range(10)]
    assert pool.map(square, []) == []
    assert pool.starmap(add, [(1, 2), (3, 4)]) == [3, 7]
    assert pool.map_async(square, [2]).get() == [4]
    assert pool.starmap_async(add, [(1,), (2, 3)]).get() == [1, 5]


def test_applies(pool: Any) -> None:
    assert pool.apply(add, (1,), {"b": 2}) == 3
    assert pool.apply_async(add, (1, 4)).get() == 5
    assert pool.apply(os.getpid) != os.getpid()


def test_imaps(pool: Any) -> None:
    assert list(pool.imap(square, range(50))) == [x * x for x in range(50)]
    assert list(pool.imap(square, iter(range(50)), chunksize=7)) == [x * x for x in range(50)]
    assert sorted(pool.imap_unordered(square, range(50))) == [x * x for x in range(50)]
    assert list(pool.imap(square, [])) == []
    assert next(pool.imap_unordered(sleep_if_0, range(4))) != 0
    with pytest.raises(multiprocessing.TimeoutError):
        pool.imap(sleep_if_0, [0]).next(timeout=0.05)


def test_what_a_call_raises(pool: Any) -> None:
    with pytest.raises(KeyError):
        pool.map(fail_at_3, range(6))
    with pytest.raises(KeyError):
        pool.apply(fail_at_3, (3,))
    items = pool.imap(fail_at_3, range(5))
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError):
        next(items)
    assert next(items) == 4
    with pytest.raises(StopIteration):
        next(items)


def test_an_async_result(pool: Any) -> None:
    late = pool.apply_async(sleep_if_0, (0,))
    assert not late.ready()
    with pytest.raises(ValueError, match="not ready"):
        late.successful()
    with pytest.raises(multiprocessing.TimeoutError):
        late.get(timeout=0.05)
    late.wait(60)
    assert late.ready()
    assert late.successful()
    failed = pool.apply_async(fail_at_3, (3,))
    failed.wait()
    assert not failed.successful()


def test_callbacks(pool: Any) -> None:
    told: queue.SimpleQueue[Any] = queue.SimpleQueue()
    tell = told.put
    pool.apply_async(add, (1, 2), callback=tell, error_callback=tell)
    assert told.get(timeout=60) == 3
    pool.map_async(square, range(4), callback=tell)
    assert told.get(timeout=60) == [0, 1, 4, 9]
    pool.starmap_async(add, [(1, 2)], callback=tell)
    assert told.get(timeout=60) == [3]
    pool.map_async(fail_at_3, range(5), callback=tell, error_callback=tell)
    assert isinstance(told.get(timeout=60), KeyError)
    pool.apply_async(fail_at_3, (3,), callback=tell, error_callback=tell)
    assert isinstance(told.get(timeout=60), KeyError)
    assert told.empty()


def test_a_result_is_there_when_its_callback_has_run(pool: Any) -> None:
    told: list[Any] = []

    def tell(value: Any) -> None:
        time.sleep(0.05)
        told.append(value)

    assert pool.map_async(square, range(4), callback=tell).get(60) == told[0]
    with pytest.raises(KeyError):
        pool.apply_async(fail_at_3, (3,), callback=tell, error_callback=tell).get(60)
    assert isinstance(told[1], KeyError)


def test_the_end(pool: Any) -> None:
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    late = pool.apply_async(sleep_if_0, (0,))
    pool.close()
    with pytest.raises(ValueError, match="not running"):
        pool.apply(square, (1,))
    pool.join()
    assert late.get() == 0


def test_it_is_not_passed_on(pool: Any) -> None:
    with pytest.raises(NotImplementedError):
        pickle.dumps(pool)


@pytest.mark.parametrize("options", [{"processes": 0}, {"maxtasksperchild": 0}])
@pytest.mark.parametrize("make", [Pool, multiprocessing.Pool])
def test_numbers_that_make_no_sense(make: Any, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"must|at least|positive"):
        make(**options)


# Of our own --------------------------------------------------------------------------------------


def test_closures_and_remote_functions() -> None:
    number = 5
    with Pool(2) as pool:
        assert pool.map(lambda x: x + number, range(3)) == [5, 6, 7]
        assert pool.map(plasmid.remote(square), [3]) == [9]


def test_by_default_a_process_for_each_cpu() -> None:
    with Pool() as pool:
        assert "pool_size=2" in repr(pool)
        pids = set(pool.map(lambda _: time.sleep(0.1) or os.getpid(), range(8), chunksize=1))
        assert len(pids) == 2


def test_each_process_is_initialized() -> None:
    def initialize(value: int) -> None:
        os.environ["OF_THE_POOL"] = str(value)

    with Pool(2, initialize, (7,)) as pool:
        assert set(pool.map(lambda _: os.environ["OF_THE_POOL"], range(20))) == {"7"}


def test_an_initializer_that_fails_is_told_to_all_calls() -> None:
    def fail() -> None:
        raise RuntimeError("no database")

    pool = Pool(2, fail)
    results = [pool.apply_async(square, (1,)) for _ in range(2)]
    for result in results:
        with pytest.raises(ActorDiedError, match="no database"):
            result.get(60)
    with pytest.raises(ActorDiedError, match="no database"):
        pool.map(square, range(10))
    pool.terminate()
    pool.join()


def test_processes_are_replaced_after_so_many_calls() -> None:
    with Pool(2, maxtasksperchild=3) as pool:
        pids = [pool.apply(os.getpid) for _ in range(12)]
        assert max(map(pids.count, pids)) <= 3
        pids = pool.map(lambda _: os.getpid(), range(24), chunksize=1)
        assert max(map(pids.count, pids)) <= 3


def test_arrays_are_not_copied() -> None:
    array = np.arange(100_000)
    with Pool(1) as pool:
        assert pool.apply(lambda a: a.flags.writeable, (array,)) is False
        assert pool.map(lambda a: int(a.sum()), [array] * 3) == [int(array.sum())] * 3


def test_an_unpicklable_argument_fails_its_call_alone() -> None:
    with Pool(1) as pool:
        bad = pool.apply_async(square, (threading.Lock(),))
        with pytest.raises(TypeError, match="cannot pickle"):
            bad.get(60)
        assert pool.apply(square, (2,)) == 4


@pytest.mark.parametrize("end", [lambda: os._exit(3), lambda: os.kill(os.getpid(), signal.SIGKILL)])
def test_a_process_that_dies_costs_the_call_that_it_ran(end: Callable[[], None]) -> None:
    def step(x: int) -> int:
        if x == 5:
            end()
        return x

    with Pool(2) as pool:
        results = [pool.apply_async(step, (x,)) for x in range(20)]
        for x, result in enumerate(results):
            if x == 5:
                with pytest.raises(ActorUnavailableError):
                    result.get(60)
            else:
                assert result.get(60) == x


@pytest.mark.parametrize("end", [exit, lambda _: plasmid.actor.exit_actor()])
def test_a_call_that_exits_costs_no_other(end: Callable[[int], None]) -> None:
    with Pool(1) as pool:
        results = [pool.apply_async(end if x == 1 else abs, (x,)) for x in range(5)]
        with pytest.raises(RayActorError):
            results[1].get(60)
        assert [results[x].get(60) for x in (0, 2, 3, 4)] == [0, 2, 3, 4]


def test_no_call_hangs_when_there_is_no_process_in_place_of_one_that_ended(gate: Gate) -> None:
    def wait_and_exit() -> None:
        gate.wait()
        plasmid.actor.exit_actor()

    def fail() -> None:
        raise plasmid.exceptions.SessionError("over")

    with Pool(1) as pool:
        results = [pool.apply_async(wait_and_exit), *(pool.apply_async(abs, (1,)) for _ in "1234")]
        gate.await_arrivals(1)
        pool._crew.make = fail
        gate.open()
        for result in results:
            with pytest.raises((RayActorError, plasmid.exceptions.SessionError)):
                result.get(60)


def test_a_call_is_run_again_if_that_was_asked_for(tmp_path: Path) -> None:
    def once(x: int) -> int:
        mark = tmp_path / "mark"
        if not mark.exists():
            mark.touch()
            os._exit(1)
        return x

    with Pool(1, ray_remote_args={"max_task_retries": 2}) as pool:
        assert pool.apply(once, (4,)) == 4


def test_killed_at_random_all_calls_end() -> None:
    with Pool(2) as pool:
        results = [pool.apply_async(lambda x: time.sleep(0.01) or x, (x,)) for x in range(200)]
        lost = 0
        for x, result in enumerate(results):
            if x % 20 == 10:
                os.kill(next(each.pid for each in list_actors() if each.pid), signal.SIGKILL)
            try:
                assert result.get(60) == x
            except ActorUnavailableError:
                lost += 1
        assert lost <= 20
        assert pool.map(square, range(10)) == [x * x for x in range(10)]


def test_terminate_ends_what_runs_and_what_waits(gate: Gate) -> None:
    pool = Pool(1)
    runs = pool.apply_async(gate.wait)
    gate.await_arrivals(1)
    waits = [pool.apply_async(square, (x,)) for x in range(10)]
    pool.terminate()
    pool.join()
    with pytest.raises(ActorDiedError):
        runs.get(60)
    for result in waits:
        with pytest.raises((ActorDiedError, PoolTerminatedError)):
            result.get(60)
    with pytest.raises(PoolTerminatedError):
        pool.apply(square, (1,))


def test_imap_reads_no_further_ahead_than_results_are_taken() -> None:
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for x in range(10_000):
            read.append(x)
            yield x

    with Pool(2) as pool:
        items = pool.imap(square, numbers())
        for x in range(100):
            assert next(items) == x * x
            assert len(read) <= x + 10
        wild = pool.imap(square, iter(lambda: 1 // 0, None))
        with pytest.raises(ZeroDivisionError):
            list(wild)


def test_a_callback_that_raises_is_shown_and_harms_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", shown.append)
    with Pool(1) as pool:
        for _ in range(3):
            pool.apply_async(square, (1,), callback=lambda _: 1 // 0).get()
        assert pool.apply(square, (3,)) == 9
        until(lambda: len(shown) == 3, "all were shown")
    assert {each.exc_type for each in shown} == {ZeroDivisionError}
    shown.clear()


def test_callbacks_come_one_at_a_time() -> None:
    inside = threading.Lock()
    told = []

    def tell(value: int) -> None:
        assert inside.acquire(blocking=False)
        time.sleep(0.001)
        told.append(value)
        inside.release()

    with Pool(2) as pool:
        results = [pool.apply_async(square, (x,), callback=tell) for x in range(50)]
        for result in results:
            result.wait()
        until(lambda: len(told) == 50, "all were told")


def test_a_large_map() -> None:
    with Pool(2) as pool:
        assert sum(pool.map(square, range(100_000))) == sum(x * x for x in range(100_000))
        found = pool.imap_unordered(square, range(100_000), chunksize=500)
        assert sum(found) == sum(x * x for x in range(100_000))


def test_a_pool_that_nobody_has_any_more_ends() -> None:
    pool = Pool(2)
    assert pool.apply(square, (2,)) == 4
    del pool
    until(lambda: list_actors() == [], "its processes are gone")


def test_pools_in_tasks_do_not_wait_for_each_other() -> None:
    @plasmid.remote
    def with_a_pool(x: int) -> int:
        with Pool(2) as pool:
            return sum(pool.map(square, range(x)))

    assert plasmid.get([with_a_pool.remote(4) for _ in range(4)], timeout=60) == [14] * 4


def test_it_starts_a_session_and_goes_with_it(no_session: None) -> None:
    out, _ = run_program(
        """
        from plasmid.util.multiprocessing import Pool
        import plasmid
        pool = Pool(2)
        print(pool.map(abs, [-1, -2]))
        plasmid.shutdown()
        try:
            pool.map(abs, [1])
        except plasmid.exceptions.PlasmidError as error:
            print('ended', isinstance(error, LookupError))
        """
    )
    assert out.splitlines() == ["[1, 2]", "ended True"]


def test_of_another_session_a_pool_is_no_use() -> None:
    pool = Pool(1)
    assert pool.apply(square, (2,)) == 4
    plasmid.shutdown()
    plasmid.init(num_cpus=2, object_store_memory=1 << 28)
    with pytest.raises((plasmid.exceptions.SessionError, ObjectLostError)):
        pool.apply_async(square, (2,)).get(60)


def test_a_timeout_is_multiprocessings() -> None:
    assert TimeoutError is multiprocessing.TimeoutError
