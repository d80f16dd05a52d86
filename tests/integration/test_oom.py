"""A worker that the kernel kills because memory ran out: a named error, with what is known."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support import run_program

import plasmid
from plasmid.exceptions import OutOfMemoryError, WorkerCrashedError
from plasmid.runtime import resources


@pytest.fixture
def counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the session takes for its control group's memory.events."""
    file = tmp_path / "memory.events"
    file.write_text("oom_kill 1\n")
    monkeypatch.setattr(resources, "oom_counter", lambda: str(file))
    plasmid.init(num_cpus=1, object_store_memory=4 << 20)
    return file


def end(count: int, trace: str, number: int = signal.SIGKILL) -> None:
    """Die as by the kernel's hand; the count is as it will be then."""
    file = Path(trace)
    file.with_name("memory.events").write_text(f"oom_kill {count + file.stat().st_size}\n")
    with file.open("a") as runs:
        runs.write(".")
    os.kill(os.getpid(), number)


@pytest.mark.usefixtures("counter")
def test_a_worker_killed_when_memory_ran_out_is_an_error_of_that_name(tmp_path: Path) -> None:
    trace = tmp_path / "runs"
    trace.touch()
    dies = plasmid.remote(max_retries=1)(end)
    with pytest.raises(OutOfMemoryError, match=r"end\(\): worker process \d+ was killed") as caught:
        plasmid.get(dies.remote(2, str(trace)))
    assert trace.stat().st_size == 2  # it counts as any death of a worker does
    error = caught.value
    assert isinstance(error, MemoryError)
    assert not isinstance(error, WorkerCrashedError)
    assert error.pid
    assert error.peak
    assert error.peak > 1 << 20
    assert error.limit == resources.memory_use()[0]


@pytest.mark.usefixtures("counter")
@pytest.mark.parametrize(("count", "number"), [(1, signal.SIGKILL), (2, signal.SIGTERM)])
def test_other_deaths_are_not_laid_to_memory(tmp_path: Path, count: int, number: int) -> None:
    trace = tmp_path / "runs"
    trace.touch()
    dies = plasmid.remote(max_retries=0)(end)
    with pytest.raises(WorkerCrashedError) as caught:
        plasmid.get(dies.remote(count, str(trace), number))
    assert caught.value.signal == number


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of ours with a memory limit, to which we may move processes."""
    counter = Path(resources.oom_counter())
    if counter.name not in ("memory.events", "memory.oom_control"):
        counter = Path("/sys/fs/cgroup/memory.events")
    made = counter.parent / f"plasmid-test-{os.getpid()}"
    try:
        made.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error}")
    try:
        limits = ("memory.limit_in_bytes", "memory.max")
        limit = next((made / name for name in limits if (made / name).exists()), None)
        if limit is None:
            pytest.skip("the memory controller is not delegated to us")
        limit.write_text(str(LIMIT))
        with suppress(OSError):
            (made / "memory.swap.max").write_text("0")
        yield made
    finally:
        made.rmdir()


LIMIT = 256 << 20


DEVOURS = """
import os, sys, time
group, threshold, step, pause = sys.argv[1:]
with open(group + "/cgroup.procs", "w") as file:
    file.write(str(os.getpid()))
os.environ["PLASMID_MEMORY_THRESHOLD"] = threshold
import plasmid
plasmid.init(num_cpus=1, object_store_memory=4 << 20)
@plasmid.remote(max_retries=0)
def devours():
    kept = []
    while True:
        kept.append(b"x" * (int(step) << 20))
        time.sleep(float(pause))
try:
    plasmid.get(devours.remote())
except plasmid.exceptions.OutOfMemoryError as error:
    print("by the kernel" in str(error), error.limit, error.peak > 100 << 20)
    print((error.used or 0) > 100 << 20, (error.group_peak or 0) > 200 << 20)
print(plasmid.get(plasmid.remote(lambda: "well").remote()))
plasmid.shutdown()
"""


def test_the_kernel_itself_kills_and_is_named(group: Path) -> None:
    out, _ = run_program(DEVOURS, str(group), "1", "8", "0")
    assert out == f"True {LIMIT} True\nFalse True\nwell\n"


def test_who_grows_slowly_gives_way_before_that(group: Path) -> None:
    out, _ = run_program(DEVOURS, str(group), "0.8", "1", "0.01")
    assert out == f"False {LIMIT} True\nTrue False\nwell\n"


TIGHT = """
import os, sys
group, limit = sys.argv[1:]
with open(group + "/cgroup.procs", "w") as file:
    file.write(str(os.getpid()))
import numpy as np
import plasmid
try:
    plasmid.init(object_store_memory=int(limit) + 4096)
except plasmid.exceptions.ResourceLimitError as error:
    print("control group" in str(error), plasmid.is_initialized())
plasmid.init(num_cpus=1, object_store_memory=int(limit) // 4)
refs = [plasmid.put(np.full(20 << 20, n, np.uint8)) for n in range(20)]
print([int(plasmid.get(ref).sum()) // (20 << 20) for ref in refs] == list(range(20)))
plasmid.shutdown()
"""


def test_a_store_beyond_the_groups_limit_is_refused_and_one_within_works(group: Path) -> None:
    out, _ = run_program(TIGHT, str(group), str(LIMIT))
    assert out == "True False\nTrue\n"
