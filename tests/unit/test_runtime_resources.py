"""CPUs and memory come from the smallest limit that applies."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from plasmid.runtime import resources
from plasmid.runtime.environment import ThreadLimit


def build(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = {
    "proc/self/cgroup": "0::/user/job\n",
    "proc/self/mountinfo": "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    "sys/fs/cgroup/user/job/cgroup.procs": "",
}
V1 = {
    "proc/self/cgroup": "4:memory:/job\n3:cpu,cpuacct:/job\n0::/\n",
    "proc/self/mountinfo": (
        "31 23 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "32 23 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    ),
    "sys/fs/cgroup/memory/job/tasks": "",
    "sys/fs/cgroup/cpu/job/tasks": "",
}


def test_version_2_counts_the_limits_of_all_ancestors(tmp_path: Path) -> None:
    build(
        tmp_path,
        {
            **V2,
            "sys/fs/cgroup/user/job/cpu.max": "max 100000",
            "sys/fs/cgroup/user/cpu.max": "150000 100000",
            "sys/fs/cgroup/user/job/memory.max": "3000",
            "sys/fs/cgroup/user/memory.max": "2000",
            "sys/fs/cgroup/memory.max": "max",
        },
    )
    assert list(resources._cpu_quotas(tmp_path)) == [1.5]
    assert sorted(resources._memory_limits(tmp_path)) == [2000, 3000]


def test_version_1_is_read_too(tmp_path: Path) -> None:
    build(
        tmp_path,
        {
            **V1,
            "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "250000",
            "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "5000",
        },
    )
    assert list(resources._cpu_quotas(tmp_path)) == [2.5]
    assert list(resources._memory_limits(tmp_path)) == [5000]


def test_a_container_that_sees_the_hosts_path_looks_at_its_root(tmp_path: Path) -> None:
    build(
        tmp_path,
        {
            **V2,
            "proc/self/cgroup": "0::/docker/0123\n",
            "sys/fs/cgroup/memory.max": "7000",
        },
    )
    assert list(resources._memory_limits(tmp_path)) == [7000]


def test_without_any_cgroup_there_is_no_limit(tmp_path: Path) -> None:
    assert list(resources._cpu_quotas(tmp_path)) == []
    assert list(resources._memory_limits(tmp_path)) == []


def test_cpus_are_those_of_the_affinity_mask_at_most() -> None:
    assert 1 <= resources.usable_cpus() <= len(os.sched_getaffinity(0))


def test_a_small_quota_is_still_one_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "_cpu_quotas", lambda root: iter([0.5]))
    assert resources.usable_cpus() == 1


def test_the_default_is_a_share_of_what_there_is() -> None:
    chosen = resources.object_store_bytes(None)
    assert chosen % 4096 == 0
    assert 0 < chosen <= resources.memory().bytes * resources.DEFAULT_SHARE


def test_more_than_there_is_raises_with_both_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "_memory_limits", lambda root: iter([1 << 30]))
    with pytest.raises(resources.ResourceLimitError) as raised:
        resources.object_store_bytes(1 << 31)
    assert isinstance(raised.value, ValueError)
    for part in ("object_store_memory=2.15 GB", "this control group has 1.07 GB", "322 MB"):
        assert part in str(raised.value)


def test_a_limit_on_file_sizes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def limits(which: int) -> tuple[int, int]:
        small = which == resource.RLIMIT_FSIZE
        return (1 << 28 if small else resource.RLIM_INFINITY), resource.RLIM_INFINITY

    monkeypatch.setattr(resources.resource, "getrlimit", limits)
    with pytest.raises(resources.ResourceLimitError, match=r"ulimit -f.* 134 MB"):
        resources.object_store_bytes(1 << 28)
    assert resources.object_store_bytes(None) <= 1 << 27


def test_sizes_are_whole_pages() -> None:
    assert resources.object_store_bytes((1 << 20) + 1) == (1 << 20) + 4096


def test_one_thread_unless_the_task_or_the_user_says_more() -> None:
    environ: dict[str, str] = {}
    limit = ThreadLimit(environ)
    assert environ == {"OMP_NUM_THREADS": "1"}
    limit.set(4)
    assert environ == {"OMP_NUM_THREADS": "4"}
    limit.set(0.5)
    assert environ == {"OMP_NUM_THREADS": "1"}
    users = {"OMP_NUM_THREADS": "3"}
    ThreadLimit(users).set(8)
    assert users == {"OMP_NUM_THREADS": "3"}
