"""A full store without a disk: who makes an object waits for who can make room, and is told who
does not."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from support import STORE, Gate, run_program

import plasmid
from plasmid._private.internal_api import memory_summary
from plasmid.exceptions import ObjectStoreFullError
from plasmid.runtime import spilling

pytestmark = pytest.mark.usefixtures("without_disk", "session")

PART = STORE // 4
"""Bytes of an array; three of them fit."""


@pytest.fixture(scope="module")
def without_disk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(spilling.BYTES, "0")
        yield


def part(value: float = 0) -> np.ndarray[Any, Any]:
    return np.full(PART // 8 - 8, value)


@plasmid.remote
def make(value: float) -> np.ndarray[Any, Any]:
    return part(value)


@plasmid.remote
def first(array: np.ndarray[Any, Any]) -> float:
    return float(array[0])


def fill() -> list[Any]:
    return [plasmid.put(part()) for _ in range(3)]


def test_a_producer_is_slowed_to_what_its_consumers_take() -> None:
    results = [first.remote(plasmid.put(part(n))) for n in range(30)]
    assert plasmid.get(results, timeout=60) == list(range(30))


def test_arguments_that_are_passed_as_values_wait_too() -> None:
    results = [first.remote(part(n)) for n in range(30)]
    assert plasmid.get(results, timeout=60) == list(range(30))


def test_results_wait_until_others_are_dropped() -> None:
    filled = fill()
    made = make.remote(7)
    assert plasmid.wait([made], timeout=0.3) == ([], [made])
    del filled
    assert plasmid.get(made, timeout=60)[0] == 7
    assert "had to wait for room" in memory_summary(stats_only=True)


def test_a_loop_that_drops_as_it_goes_gets_more_than_fits() -> None:
    waiting = [make.options(num_cpus=2).remote(n) for n in range(20)]  # one after the other
    for n in range(20):
        assert plasmid.get(waiting.pop(0), timeout=60)[0] == n


def test_a_generator_waits_for_who_takes_its_items() -> None:
    @plasmid.remote(num_returns="streaming")
    def items(n: int) -> Any:
        for value in range(n):
            yield part(value)

    for n, ref in enumerate(items.remote(20)):
        assert plasmid.get(ref, timeout=60)[0] == n


def test_another_thread_makes_room() -> None:
    filled = fill()
    gone = threading.Event()

    def drop_later() -> None:
        gone.wait(0.2)
        filled.clear()

    thread = threading.Thread(target=drop_later)
    thread.start()
    assert plasmid.get(plasmid.put(part(5)))[0] == 5
    thread.join()


def test_memory_that_only_a_cycle_keeps_is_room() -> None:
    cycle: list[Any] = fill()
    cycle.append(cycle)
    del cycle
    assert plasmid.get(plasmid.put(part(5)))[0] == 5


def test_an_array_in_place_waits_too(gate: Gate) -> None:
    @plasmid.remote
    def hold(array: np.ndarray[Any, Any]) -> None:
        gate.wait()

    held = hold.remote(plasmid.put(part()))
    gate.await_arrivals(1)
    threading.Timer(0.2, gate.open).start()
    arrays = [plasmid.empty(PART // 8 - 1024) for _ in range(3)]
    assert plasmid.get(held, timeout=60) is None
    del arrays


def test_without_anybody_to_make_room_it_is_told_at_once() -> None:
    filled = fill()
    with pytest.raises(
        ObjectStoreFullError, match=rf"filled now\. Held by driver {os.getpid()}: \d{{8}} bytes"
    ):
        plasmid.put(part())
    assert plasmid.get(filled[0])[0] == 0


def test_a_full_store_has_room_again_when_references_are_dropped() -> None:
    kept = []
    with pytest.raises(ObjectStoreFullError):
        kept.extend(plasmid.put(np.zeros(1 << 17)) for _ in range(STORE >> 20))
    assert len(kept) >= (STORE >> 20) - 2
    assert plasmid.get(plasmid.put(1)) == 1, "small ones still find room"
    kept.clear()
    assert plasmid.get(plasmid.put(b"x" * (STORE // 2))) is not None


def test_an_error_finds_a_place_in_a_store_that_is_full() -> None:
    @plasmid.remote(runtime_env={"env_vars": {"PLASMID_STORE_FULL_SECONDS": "0.1"}})
    def fails(length: int) -> None:
        raise ValueError("told " + "x" * length)

    plasmid.wait([fails.remote(0)])
    kept: list[Any] = []
    size = STORE // 4
    while size > 2000:
        try:
            kept.append(plasmid.put(b"x" * size))
        except ObjectStoreFullError:
            size //= 2
    with pytest.raises(
        ObjectStoreFullError, match="no room to store what ended the task: ValueError: told"
    ):
        plasmid.get(fails.remote(5000))
    kept.clear()
    with pytest.raises(ValueError, match="told"):
        plasmid.get(fails.remote(5000))


def test_it_can_be_interrupted(gate: Gate) -> None:
    @plasmid.remote
    def wait() -> None:
        gate.wait()

    filled = fill()
    waits = wait.remote()
    gate.await_arrivals(1)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        plasmid.put(part())
    gate.open()
    plasmid.get(waits)
    del filled
    assert plasmid.get(plasmid.put(part(5)))[0] == 5


def test_when_nobody_makes_room_the_wait_ends_and_tells_who_is_in_the_way(no_session: None) -> None:
    out, _ = run_program(
        f"""
        import os
        os.environ["PLASMID_STORE_FULL_SECONDS"] = "0.2"
        import numpy as np, plasmid
        plasmid.init(num_cpus=2, object_store_memory={STORE})

        @plasmid.remote
        def make(n):
            return np.full({PART // 8 - 8}, n)

        filled = plasmid.get([plasmid.put(np.ones({PART // 8 - 8})) for _ in range(3)])
        for made in [make.remote(n) for n in range(4)]:
            try:
                plasmid.get(made)
            except plasmid.exceptions.ObjectStoreFullError as error:
                held = f"driver {{os.getpid()}}: "
                print("nor did it in 0.2 seconds" in str(error), held in str(error),
                      "by views" in str(error))
        """
    )
    assert out == "True True True\n" * 4
