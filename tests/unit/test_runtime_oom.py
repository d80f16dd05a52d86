"""Which deaths count as the kernel's doing because memory ran out."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_runtime_resources import V1, V2, build

from plasmid.exceptions import OutOfMemoryError
from plasmid.runtime import oom, resources


def test_each_kill_that_was_counted_explains_one_death(tmp_path: Path) -> None:
    file = tmp_path / "memory.events"
    file.write_text("low 9\noom 9\noom_kill 5\noom_group_kill 9\n")
    kills = oom.OomKills(str(file))
    assert not kills.take()  # counted before we were
    file.write_text("oom_kill 7\n")
    assert [kills.take() for _ in range(3)] == [True, True, False]
    file.write_text("oom_kill 8\n")
    assert [kills.take() for _ in range(2)] == [True, False]


def test_a_kill_that_was_counted_long_ago_explains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(oom.time, "monotonic", lambda: clock[0])
    file = tmp_path / "memory.events"
    file.write_text("oom_kill 0\n")
    kills = oom.OomKills(str(file))
    file.write_text("oom_kill 3\n")
    assert kills.take()
    clock[0] += oom.TOGETHER / 2
    assert kills.take()
    clock[0] += oom.TOGETHER
    assert not kills.take()


@pytest.mark.parametrize("text", [None, "", "oom_kill\n", "oom_kill x\n", "\0\xff"])
def test_without_a_count_no_death_is_explained(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "memory.events"
    if text is not None:
        file.write_text(text)
    assert not oom.OomKills(str(file)).take()


def test_the_counter_of_the_nearest_group_is_found(tmp_path: Path) -> None:
    new = build(tmp_path / "2", {**V2, "proc/vmstat": "oom_kill 0"})
    assert resources.oom_counter(new) == str(new / "proc/vmstat")
    build(new, {"sys/fs/cgroup/user/memory.events": "oom_kill 0\n"})
    build(new, {"sys/fs/cgroup/user/job/memory.events": "oom_kill 0\n"})
    assert resources.oom_counter(new) == str(new / "sys/fs/cgroup/user/job/memory.events")
    old = build(
        tmp_path / "1", {**V1, "sys/fs/cgroup/memory/job/memory.oom_control": "under_oom 0"}
    )
    assert resources.oom_counter(old) == str(old / "proc/vmstat")
    build(old, {"sys/fs/cgroup/memory/job/memory.oom_control": "under_oom 0\noom_kill 0\n"})
    assert resources.oom_counter(old) == str(old / "sys/fs/cgroup/memory/job/memory.oom_control")


def test_what_is_told_of_memory_is_of_the_group_with_the_smallest_limit(tmp_path: Path) -> None:
    build(
        tmp_path,
        {
            **V2,
            "sys/fs/cgroup/user/job/memory.max": "max\n",
            "sys/fs/cgroup/user/job/memory.current": "1\n",
            "sys/fs/cgroup/user/memory.max": "2000\n",
            "sys/fs/cgroup/user/memory.current": "1500\n",
            "sys/fs/cgroup/user/memory.peak": "1999\n",
        },
    )
    assert resources.memory_use(tmp_path) == (2000, 1500, 1999)
    machine, used, peak = resources.memory_use(tmp_path / "nothing")
    assert machine == resources.memory_use()[0] or machine > resources.memory_use()[0]
    assert (used, peak) == (0, 0)


def test_the_error_tells_what_is_known() -> None:
    error = OutOfMemoryError.killed("kernel", "f", 7, 0, 1_500_000, 64_000_000_000, 0, 0)
    assert isinstance(error, MemoryError)
    assert str(error).startswith(
        "f(): worker process 7 was killed by the kernel, because memory ran out, while it ran the"
        " task (it had used up to 1.5 MB; the limit is 64,000.0 MB). "
    )
    assert (error.pid, error.peak, error.limit) == (7, 1_500_000, 64_000_000_000)
    assert (error.group_used, error.group_peak) == (None, None)
    assert (
        "("
        not in str(OutOfMemoryError.killed("kernel", "f", 7, 0, 0, 0, 0, 0)).partition("task")[2][
            :3
        ]
    )
