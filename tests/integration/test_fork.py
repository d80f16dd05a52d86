"""Forked children of a program or a task keep the views that they inherit."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support import Gate, arena, run_program, until

import plasmid
from plasmid._core import core
from plasmid.exceptions import SessionError

pytestmark = pytest.mark.usefixtures("session")

MB = 1 << 20
TOTAL = MB * (MB - 1) // 2


class Child:
    """A forked child that runs `work` and ends with 0, or 1 if it raised. It is killed if the test
    fails. It has no share in the parent's `gates`, and so can wait at them."""

    def __init__(self, work: Callable[[], None], *gates: Gate) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            try:
                for gate in gates:
                    gate.open()
                work()
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind is not None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)

    def status(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def numbers() -> list[Any]:
    """A view, in a list so that a test can let go of it."""
    return [plasmid.get(plasmid.put(np.arange(MB)))]


def guests() -> int:
    return sum(client.kind == core.GUEST for client in arena().clients())


def no_guest() -> None:
    until(lambda: guests() == 0, "a child is still a client")


def overwrite() -> None:
    """Put other bytes where something was that is gone."""
    for _ in range(3):
        fill = [plasmid.put(np.full(MB, 9)) for _ in range(3)]
        del fill


def test_an_inherited_view_stays_what_it_was(gate: Gate) -> None:
    view = numbers()
    private = [plasmid.get(plasmid.put(np.arange(MB)), writable=True)]
    private[0][0] = 5
    frame = [plasmid.get(plasmid.put(pd.DataFrame({"a": np.arange(MB // 8), "s": "text"})))]

    def look() -> None:
        gate.wait()  # until the parent has let go, and has stored other bytes
        assert view[0].sum() == TOTAL
        assert private[0][0] == 5
        assert private[0].sum() == TOTAL + 5
        private[0][1] = 7
        assert frame[0]["a"].sum() == (MB // 8) * (MB // 8 - 1) // 2
        assert set(frame[0]["s"]) == {"text"}
        assert np.frombuffer(memoryview(view[0]), np.int64)[5] == 5

    with Child(look, gate) as child:
        for box in (view, private, frame):
            box.clear()
        overwrite()
        gate.open()
        assert child.status() == 0
    no_guest()


def test_the_bytes_go_when_parent_and_child_have_let_go(gate: Gate, tmp_path: Path) -> None:
    used = arena().stats()["heap_used"]
    view, second = numbers(), Gate(tmp_path, "second")

    def work() -> None:
        gate.wait()
        view.clear()
        second.wait()

    with Child(work, gate, second) as child:
        view.clear()
        overwrite()
        assert arena().stats()["heap_used"] > used
        gate.open()
        until(lambda: arena().stats()["heap_used"] == used, "the child still has it")
        second.open()
        assert child.status() == 0
    no_guest()


@pytest.mark.parametrize("end", ["kill", "exec"])
def test_a_child_that_is_gone_has_let_go(end: str) -> None:
    used = arena().stats()["heap_used"]
    view = numbers()

    def work() -> None:
        if end == "exec":
            os.execv("/bin/sleep", ["sleep", "1000"])
        time.sleep(1000)

    with Child(work) as child:
        view.clear()
        if end == "kill":
            until(lambda: guests() == 1, "the child is no client")
            os.kill(child.pid, signal.SIGKILL)
        until(lambda: arena().stats()["heap_used"] == used, "it is still there")
        if end == "exec":
            os.kill(child.pid, signal.SIGKILL)
        assert child.status() == -signal.SIGKILL
    no_guest()


def test_a_child_that_execs_has_let_go_though_a_child_of_its_own_lives_on(gate: Gate) -> None:
    """Which is a client of its own, and has not kept the lifeline."""
    used = arena().stats()["heap_used"]
    view = numbers()

    def work() -> None:
        if os.fork() == 0:
            view.clear()
            gate.wait()
            os._exit(0)
        os.execv("/bin/sleep", ["sleep", "1000"])

    with Child(work, gate) as child:
        gate.await_arrivals(1)
        view.clear()
        until(lambda: arena().stats()["heap_used"] == used, "it is still there")
        until(lambda: guests() == 1, "which goes on")
        gate.open()
        os.kill(child.pid, signal.SIGKILL)
        child.status()
    no_guest()


def test_threads_may_fork_at_the_same_time() -> None:
    view = numbers()

    def fork() -> None:
        statuses.extend(Child(look).status() for _ in range(10))

    def look() -> None:
        assert view[0][5] == 5
        assert len(os.listdir("/proc/self/fd")) <= before + 20  # no pipe of other threads is left

    statuses: list[int] = []
    before = len(os.listdir("/proc/self/fd"))
    threads = [threading.Thread(target=fork) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0] * 40
    assert len(os.listdir("/proc/self/fd")) == before
    no_guest()


def test_many_descriptors_do_not_hinder_a_fork() -> None:
    """A pipe's number may be beyond what select() can wait for."""
    (view,) = numbers()
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        with Child(lambda: None if view[5] == 5 else os._exit(2)) as child:
            assert child.status() == 0
    finally:
        for fd in held:
            os.close(fd)
    no_guest()


def test_a_child_without_views_is_no_client(gate: Gate) -> None:
    ref = plasmid.put(1)

    def work() -> None:
        gate.wait()
        with pytest.raises(SessionError, match="fork"):
            plasmid.get(ref)

    with Child(work, gate) as child:
        assert guests() == 0
        gate.open()
        assert child.status() == 0


def test_children_of_children_keep_views_too(gate: Gate) -> None:
    view = numbers()

    def grandchild() -> None:
        gate.wait()
        assert view[0].sum() == TOTAL

    def work() -> None:
        with Child(grandchild) as inner:
            assert inner.status() == 0
        assert view[0].sum() == TOTAL

    with Child(work, gate) as child:
        view.clear()
        overwrite()
        gate.open()
        assert child.status() == 0
    no_guest()


def total(array: np.ndarray[Any, Any], queue: Any) -> None:
    queue.put(int(array.sum()))


def test_multiprocessing_children_read_an_inherited_array() -> None:
    context = multiprocessing.get_context("fork")
    (array,) = numbers()
    queue = context.SimpleQueue()
    children = [context.Process(target=total, args=(array, queue)) for _ in range(4)]
    for child in children:
        child.start()
    sums = [queue.get() for _ in children]
    for child in children:
        child.join()
    assert sums == [TOTAL] * 4
    queue.close()
    no_guest()


def test_a_tasks_child_outlives_its_worker(tmp_path: Path) -> None:
    @plasmid.remote(max_retries=0)
    def fork(array: np.ndarray[Any, Any], start: str, answer: str) -> None:
        if os.fork() == 0:
            os.setsid()
            while not os.path.exists(start):
                time.sleep(0.01)
            with open(answer, "w") as out:
                out.write(f"{array.sum()}\n")
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)

    start, answer = tmp_path / "start", tmp_path / "answer"
    ref = plasmid.put(np.arange(MB))
    with pytest.raises(plasmid.exceptions.WorkerCrashedError):
        plasmid.get(fork.remote(ref, str(start), str(answer)))
    del ref
    overwrite()
    start.touch()
    until(lambda: answer.exists() and answer.read_text().endswith("\n"), "no answer")
    assert int(answer.read_text()) == TOTAL
    no_guest()


def test_a_child_outlives_the_driver() -> None:
    out, _ = run_program(
        """
        import os, signal, numpy as np, plasmid
        plasmid.init(address="local", num_cpus=1, object_store_memory=50_000_000)
        view = plasmid.get(plasmid.put(np.arange(1000000)))
        read, write = os.pipe()
        if os.fork() == 0:
            os.close(write)
            os.read(read, 1)  # the driver is dead
            print(view.sum(), flush=True)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        status=-9,
    )
    assert out == "499999500000\n"


def test_views_of_an_ended_session_are_inherited_too(no_session: None) -> None:
    plasmid.init(num_cpus=1, object_store_memory=50_000_000)
    (view,) = numbers()
    plasmid.shutdown()

    def work() -> None:
        assert view.sum() == TOTAL

    with Child(work) as child:
        assert child.status() == 0


def test_a_new_session_begins_in_a_child() -> None:
    (view,) = numbers()

    def work() -> None:
        with plasmid.init(address="local", num_cpus=1, object_store_memory=50_000_000):
            assert plasmid.get(plasmid.put(view))[7] == 7

    with Child(work) as child:
        assert child.status() == 0
    no_guest()
