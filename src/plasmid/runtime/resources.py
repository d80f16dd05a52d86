"""What this process may use: CPUs and memory of the machine, or of the control group it runs in.

Both versions of control groups are read. A limit may stand at any group from ours up to the root,
so all are looked at; the smallest counts. Where the path in /proc/self/cgroup does not exist under
the mount (a container that sees the host's path), the mount's root is our group.
"""

from __future__ import annotations

import errno
import math
import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from plasmid.exceptions import ResourceLimitError

DEFAULT_SHARE = 0.3
"""Part of the memory that the object store takes unless told otherwise, as in Ray."""

_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Memory:
    """How much there is, and who says so: `this machine`, `this control group`."""

    bytes: int
    of: str


def usable_cpus() -> int:
    """CPUs that the affinity mask and the control group's quota allow; at least one."""
    quotas = [len(os.sched_getaffinity(0)), *_cpu_quotas(Path("/"))]
    return max(1, math.floor(min(quotas)))


def usable_gpus() -> int:
    """NVIDIA devices of this machine, of those that CUDA_VISIBLE_DEVICES leaves."""
    there = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    if not there:
        there = len(list(Path("/dev").glob("nvidia[0-9]*")))
    visible = visible_gpus()
    return there if visible is None else min(there, len(visible))


def visible_gpus() -> list[str] | None:
    """The devices that CUDA_VISIBLE_DEVICES names; None if it is not set."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return None
    return [] if given in ("", "NoDevFiles") else given.split(",")


def memory() -> Memory:
    """All memory of the machine, or the smallest limit of our control groups if that is less."""
    machine = Memory(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "this machine")
    groups = [Memory(limit, "this control group") for limit in _memory_limits(Path("/"))]
    return min((machine, *groups), key=lambda found: found.bytes)


def memory_use(root: Path = Path("/")) -> tuple[int, int, int]:
    """Limit, bytes in use, and the most that ever were, of our control group with the smallest
    limit; of the machine if that has less. 0 for what nothing tells."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = (machine, 0, 0)
    for group in _groups(root, "memory"):
        limit = next(_limits_of(group), machine)
        if limit < found[0]:
            used = _number(group / "memory.current") or _number(group / "memory.usage_in_bytes")
            peak = _number(group / "memory.peak") or _number(group / "memory.max_usage_in_bytes")
            found = (limit, used, peak)
    return found


def oom_counter(root: Path = Path("/")) -> str:
    """The file whose line `oom_kill` counts the processes of our control group, or else of the
    machine, that the kernel killed because memory ran out."""
    for group in _groups(root, "memory"):
        for name in ("memory.events", "memory.oom_control"):
            if "oom_kill" in _words(group / name):
                return str(group / name)
    return str(root / "proc/vmstat")


def memory_sources(root: Path = Path("/")) -> list[str]:
    """Where it stands how much memory is in use, and how much there is: the folders of our control
    groups that have a limit, the inner first, and the machine's file."""
    groups = [str(group) for group in _groups(root, "memory") if any(_limits_of(group))]
    return [*groups, str(root / "proc/meminfo")]


def object_store_bytes(requested: int | None) -> int:
    """`object_store_memory` as given to init(), in whole pages, checked; by default a share of what
    there is."""
    have = memory()
    if requested is None:
        return int(min(have.bytes * DEFAULT_SHARE, _rlimit_room())) // _PAGE * _PAGE
    if requested > have.bytes:
        raise ResourceLimitError(
            f"object_store_memory={size(requested)}, but {have.of} has {size(have.bytes)};"
            f" the default would be {size(have.bytes * DEFAULT_SHARE)}"
        )
    room = _rlimit_room()
    if requested > room:
        raise ResourceLimitError(
            f"object_store_memory={size(requested)}, but the limits on this process's address"
            f" space (ulimit -v) and file size (ulimit -f) leave room for {size(room)}"
        )
    return -(-requested // _PAGE) * _PAGE


def why_no_arena(error: OSError, heap_bytes: int) -> Exception:
    """What to raise when an arena with such a heap could not be made."""
    space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if error.errno != errno.ENOMEM or space == resource.RLIM_INFINITY:
        return error
    return ResourceLimitError(
        f"this process's address space is limited to {size(space)} (ulimit -v); a session with"
        f" object_store_memory={size(heap_bytes)} does not fit in: it maps that twice, and some"
        " gigabytes for tables that cost nothing until they are used"
    )


def size(count: float) -> str:
    """A size for people: `1.5 GB (1500000000 bytes)`."""
    if count < 1000:
        return f"{int(count)} bytes"
    power = min(int(math.log10(count)) // 3, 5)
    unit = ("", "kB", "MB", "GB", "TB", "PB")[power]
    return f"{count / 1000**power:.3g} {unit} ({int(count)} bytes)"


def _rlimit_room() -> float:
    """Bytes of heap that this process's limits allow. The arena is one file, mapped twice
    (writable, read-only)."""
    space, _ = resource.getrlimit(resource.RLIMIT_AS)
    file, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    room = math.inf
    if space != resource.RLIM_INFINITY:
        room = min(room, space / 4)
    if file != resource.RLIM_INFINITY:
        room = min(room, file / 2)
    return room


def _cpu_quotas(root: Path) -> Iterator[float]:
    for group in _groups(root, "cpu"):
        old = _words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us")
        quota, period = old or _words(group / "cpu.max") or ("max", "1")
        if quota not in ("max", "-1"):
            yield int(quota) / int(period)


def _memory_limits(root: Path) -> Iterator[int]:
    for group in _groups(root, "memory"):
        yield from _limits_of(group)


def _limits_of(group: Path) -> Iterator[int]:
    for name in ("memory.limit_in_bytes", "memory.max"):
        for word in _words(group / name):
            if word != "max":
                yield int(word)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of our control groups that may limit `controller`, from the inner to the outer."""
    mounts = _mounts(root)
    for line in _lines(root / "proc/self/cgroup"):
        _, names, path = line.split(":", 2)
        key = controller if controller in names.split(",") else "" if not names else None
        mount = mounts.get(key) if key is not None else None
        if mount is None:
            continue
        inner = mount / path.lstrip("/")
        if not inner.is_dir() or ".." in inner.parts:
            inner = mount
        yield inner
        while inner != mount:
            inner = inner.parent
            yield inner


def _mounts(root: Path) -> dict[str, Path]:
    """Where each controller of version 1, and "" for version 2, is mounted."""
    found: dict[str, Path] = {}
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        folder = root / before.split(" ")[4].lstrip("/")
        if kind == "cgroup2":
            found.setdefault("", folder)
        elif kind == "cgroup":
            for name in options.split(","):
                found.setdefault(name, folder)
    return found


def _number(path: Path) -> int:
    return next(map(int, _words(path)), 0)


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
