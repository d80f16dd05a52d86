"""How much memory is in use, and who is to give way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from test_runtime_resources import V1, V2, build

from plasmid._core import core
from plasmid.runtime import memory_watch, resources
from plasmid.runtime.memory_watch import MemoryWatch, Settings

MB = 1 << 20


def test_groups_with_a_limit_come_before_the_machine(tmp_path: Path) -> None:
    build(
        tmp_path,
        {
            **V2,
            "sys/fs/cgroup/user/job/memory.max": "max\n",
            "sys/fs/cgroup/user/memory.max": "4000\n",
            "sys/fs/cgroup/user/memory.current": "3000\n",
            "sys/fs/cgroup/user/memory.stat": "anon 5\ninactive_file 1000\nactive_file 7\n",
            "proc/meminfo": "MemTotal: 64 kB\nMemFree: 1 kB\nMemAvailable: 24 kB\n",
        },
    )
    sources = resources.memory_sources(tmp_path)
    assert [Path(each).name for each in sources] == ["user", "meminfo"]
    assert list(map(memory_watch.memory_in_use, sources)) == [(4000, 2000), (64 << 10, 40 << 10)]


def test_groups_of_the_first_version(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/memory/job/memory."
    build(
        tmp_path,
        {
            **V1,
            f"{group}limit_in_bytes": "4000\n",
            f"{group}usage_in_bytes": "3000\n",
            f"{group}stat": "cache 5\ntotal_inactive_file 500\n",
        },
    )
    source, _ = resources.memory_sources(tmp_path)
    assert memory_watch.memory_in_use(source) == (4000, 2500)


@pytest.mark.parametrize("text", [None, "", "MemTotal:\n", "MemTotal: x kB\n", "\0\xff"])
def test_what_tells_nothing_is_no_limit(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "meminfo").write_text(text)
    assert memory_watch.memory_in_use(str(tmp_path / "meminfo")) == (0, 0)
    assert memory_watch.memory_in_use(str(tmp_path)) == (0, 0)


def test_what_this_process_uses() -> None:
    before = memory_watch.process_memory(os.getpid())
    held = bytearray(os.urandom(1)) * (64 * MB)
    used, peak = memory_watch.process_memory(os.getpid())
    assert 60 * MB < used - before[0] < 70 * MB
    assert peak >= used
    assert len(held) == 64 * MB
    assert memory_watch.process_memory(1 << 30) == (0, 0)


def runner(number: int, started: int, **facts: object) -> core.Runner:
    whole = {"memory": 0, "again": True, "actor": False, **facts}
    return core.Runner(number, 1, number, started, **whole)  # type: ignore[arg-type]


def test_the_cheapest_of_those_whose_end_would_help() -> None:
    large = runner(1, 10, again=False), 400 * MB
    actor = runner(2, 40, actor=True), 200 * MB
    older, younger = (runner(3, 20), 100 * MB), (runner(4, 30), 100 * MB)
    small = runner(5, 50), 99 * MB
    greedy = runner(6, 1, again=False, memory=99 * MB), 100 * MB
    everybody = [greedy, small, younger, older, actor, large]
    order = []
    while everybody:
        victim = memory_watch.choose(everybody)
        if victim is None:
            break
        order.append(victim.slot)
        everybody = [each for each in everybody if each[0] != victim]
    assert order == [6, 4, 3, 2, 1, 5]
    assert memory_watch.choose([]) is None
    assert memory_watch.choose([(runner(1, 1), memory_watch.WORTH - 1)]) is None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(memory_watch.time, "monotonic", lambda: now[0])
    return now


def test_the_next_look_is_due_when_memory_could_be_used_up(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    busy = [runner(1, 1)]

    def runners(_: object) -> list[core.Runner]:
        looks.append(clock[0])
        return busy

    monkeypatch.setattr(core, "runners", runners)
    monkeypatch.setattr(memory_watch.os, "cpu_count", lambda: 2)
    file = tmp_path / "meminfo"
    watch = MemoryWatch(None, Settings([str(file)], 0.5, limits=False), pytest.fail)  # type: ignore[arg-type]
    for left, pause in ((8 << 30, 8 * 2**30 / 8e9), (1 << 20, memory_watch.SOONEST), (1 << 40, 10)):
        file.write_text(f"MemTotal: {4 << 30} kB\nMemAvailable: {(2 << 30) + (left >> 10)} kB\n")
        watch.look()
        assert watch.pauses() == [pytest.approx(pause)]
        clock[0] += pause / 2
        watch.look()
        assert len(looks) == 1
        clock[0] += pause
        looks.clear()
    busy.clear()
    watch.look()
    assert watch.pauses() == []
    watch.hurry()
    assert watch.pauses() == []


def test_where_nobodys_end_would_help_it_looks_rarely(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "runners", lambda _: [runner(1 << 30, 1)])
    file = tmp_path / "meminfo"
    file.write_text("MemTotal: 1000 kB\nMemAvailable: 1 kB\n")
    watch = MemoryWatch(None, Settings([str(file)], 0.5, limits=False), pytest.fail)  # type: ignore[arg-type]
    watch.look()
    assert watch.pauses() == [pytest.approx(memory_watch.GRACE)]


def test_who_is_to_look_at_nothing_is_never_due() -> None:
    watch = MemoryWatch(None, Settings(["/proc/meminfo"], 1.0, limits=False), pytest.fail)  # type: ignore[arg-type]
    watch.look()
    watch.hurry()
    assert watch.pauses() == []
    assert watch.open_pressure() == -1


def test_settings_survive_a_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.7")
    monkeypatch.setenv("PLASMID_MEMORY_LIMITS", "1")
    made = Settings.of_environment(["/a b", "/c"])
    again = Settings.decode(made.encode())
    assert (again.sources, again.share, again.limits) == (["/a b", "/c"], 0.7, True)
    monkeypatch.setenv("PLASMID_MEMORY_THRESHOLD", "1")
    monkeypatch.setenv("PLASMID_MEMORY_LIMITS", "0")
    assert not Settings.of_environment([]).wanted
