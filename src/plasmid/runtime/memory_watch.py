"""Before memory runs out, the task that costs least to run again gives way (the keeper's part).

How much is left is looked at while tasks run, and only then: the next look is due when what is left
could be used up, as fast as the machine can fault pages in, or when the kernel says that processes
wait for memory (PSI), where it does. When more than a share of the limit is in use, one worker is
killed, and the next not before that one is gone. Of those that use at least a quarter of what the
largest does, it is: first those that use more than their tasks' `memory`; then those that may be
run again; then tasks before actors; then the latest.

With PLASMID_MEMORY_LIMITS=1 a task's `memory` is a limit: who uses more is killed, whatever is
left.
"""

from __future__ import annotations

import os
import sys
import time

from plasmid._core import core
from plasmid.runtime.counters import read_number, read_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

THRESHOLD, LIMITS = "PLASMID_MEMORY_THRESHOLD", "PLASMID_MEMORY_LIMITS"

RAY_THRESHOLD, RAY_INTERVAL = "RAY_memory_usage_threshold", "RAY_memory_monitor_refresh_ms"
"""Ray's settings; of the second only 0 counts: do not look."""

SHARE = 0.95
"""Of a limit that may be in use, unless THRESHOLD says otherwise; as in Ray."""

FASTEST = 4e9
"""Bytes a second that one CPU can fault in, at most: with huge pages."""

SOONEST, LATEST = 0.05, 10.0
"""Seconds between two looks."""

GRACE = 0.5
"""Seconds after the end of one that was killed, before another may be: the kernel counts what came
free a little later, and what ran beside it may have waited for that. And until the next look, when
nobody's end would help."""

WORTH = 32 << 20
"""Bytes: a process that uses less is not killed, as that would not help."""

PRESSURE = "some 100000 2000000"
"""Tell when processes have waited for memory for 0.1 s within 2 s."""


class Settings:
    """What `sources` of memory are looked at (see `resources.memory_sources`), the `share` of it
    that may be in use, and whether `limits` of tasks are kept."""

    def __init__(self, sources: Sequence[str], share: float, *, limits: bool) -> None:
        self.sources = sources
        self.share = share
        self.limits = limits

    @classmethod
    def of_environment(cls, sources: Sequence[str]) -> Settings:
        """As the environment says; Ray's names are understood, too. ValueError."""
        names = (THRESHOLD, RAY_THRESHOLD)
        name = next((name for name in names if os.environ.get(name)), "")
        share = SHARE
        if name:
            try:
                share = float(os.environ[name])
            except ValueError:
                share = -1
            if not 0 < share <= 1:
                raise ValueError(
                    f"init: {name} is {os.environ[name]!r}, but must be a share of the memory, "
                    "above 0; 1: the kernel decides when it is too much"
                )
        if os.environ.get(RAY_INTERVAL) == "0":
            share = 1.0
        return cls(sources, share, limits=os.environ.get(LIMITS, "0") not in ("", "0"))

    def encode(self) -> str:
        """For a command line."""
        return "\n".join((repr(self.share), "1" if self.limits else "", *self.sources))

    @classmethod
    def decode(cls, text: str) -> Settings:
        """What encode() made."""
        share, limits, *sources = text.split("\n")
        return cls(sources, float(share), limits=bool(limits))

    @property
    def wanted(self) -> bool:
        """Whether there is anything to look at."""
        return self.share < 1 or self.limits


class MemoryWatch:
    """Looks, and kills.

    Processes and threads: the keeper's one thread. A look takes some 0.1 ms, and 0.05 ms for each
    busy worker when memory is short or limits are kept.
    """

    def __init__(
        self, arena: core.Arena, settings: Settings, kill: Callable[[core.Runner], None]
    ) -> None:
        self._arena = arena
        self._settings = settings
        self._kill = kill
        self._fastest = FASTEST * (os.cpu_count() or 1)
        # None: when a task is taken, or never
        self._due: float | None = 0.0 if settings.wanted else None
        self._killed: dict[tuple[int, int], tuple[int, tuple[int, int, int, int, int]]] = {}
        self._has_told = False

    def open_pressure(self) -> int:
        """A descriptor with an urgent event (POLLPRI) when processes wait for memory; -1 if this
        kernel has none, or gives us none."""
        if not self._settings.wanted:
            return -1
        for path in (f"{self._settings.sources[0]}/memory.pressure", "/proc/pressure/memory"):
            fd = -1
            try:
                fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
                os.write(fd, PRESSURE.encode() + b"\0")
            except OSError:
                if fd >= 0:
                    os.close(fd)
            else:
                return fd
        return -1

    def hurry(self) -> None:
        """Look at the next chance, if tasks run."""
        if self._due is not None:
            self._due = 0.0

    def pauses(self) -> list[float]:
        """Seconds until look() is due, if it is."""
        return [] if self._due is None else [max(0.0, self._due - time.monotonic())]

    def look(self) -> None:
        """If it is due, or nobody ran a task when it was looked last."""
        if not self._settings.wanted or (self._due is not None and time.monotonic() < self._due):
            return
        runners = core.runners(self._arena)
        alive = set(map(_key, runners))
        self._killed = {key: how for key, how in self._killed.items() if key in alive}
        if not runners:
            self._due = None
            return
        left = self.left()
        if self._settings.limits:
            left = min(left, self._hold_to_limits(runners))
        pause = min(max(left / self._fastest, SOONEST), LATEST)
        if left <= 0 and not self._killed and not self._make_room(runners):
            pause = GRACE
        self._due = time.monotonic() + pause

    def explain(self, slot: int, epoch: int) -> tuple[int, tuple[int, int, int, int, int]] | None:
        """Why we killed that client, if we did, and what is known of it: see Arena.sweep()."""
        how = self._killed.pop((slot, epoch), None)
        if how:
            self._due = time.monotonic() + GRACE
        return how

    def left(self) -> float:
        """Bytes that may still come to be used. Cost: some 0.05 ms for each source."""
        found = (limit * self._settings.share - used for limit, used in self._uses())
        return min(found, default=float("inf"))

    def _uses(self) -> list[tuple[int, int]]:
        return [use for use in map(memory_in_use, self._settings.sources) if use[0]]

    def _hold_to_limits(self, runners: Sequence[core.Runner]) -> float:
        """Kill those that use more than their tasks' memory. What is left to the others."""
        left = float("inf")
        for runner in runners:
            if runner.memory and _key(runner) not in self._killed:
                used, peak = process_memory(runner.pid)
                left = min(left, max(0, runner.memory - used))
                if used > runner.memory:
                    self._end(runner, core.CAUSE_EXCESS, (used, peak, runner.memory, 0, 0))
        return left

    def _make_room(self, runners: Sequence[core.Runner]) -> bool:
        """Kill one, if that helps."""
        memory = {runner: process_memory(runner.pid) for runner in runners}
        victim = choose([(runner, memory[runner][0]) for runner in runners])
        if victim:
            use = min(self._uses(), key=lambda use: use[0] - use[1], default=(0, 0))
            self._end(victim, core.CAUSE_SHORT, (*memory[victim], *use, 0))
        elif not self._has_told:
            self._has_told = True
            print(
                "plasmid: memory is about to run out, but no task uses much of it: others do",
                file=sys.stderr,
                flush=True,
            )
        return victim is not None

    def _end(self, runner: core.Runner, cause: int, memory: tuple[int, int, int, int, int]) -> None:
        self._killed[_key(runner)] = (cause, memory)
        self._kill(runner)


def _key(runner: core.Runner) -> tuple[int, int]:
    return runner.slot, runner.epoch


def choose(candidates: Sequence[tuple[core.Runner, int]]) -> core.Runner | None:
    """Who is to give way, of processes and the bytes that they use; None if it would not help."""
    most = max((used for _, used in candidates), default=0)
    worth = [each for each in candidates if each[1] >= max(WORTH, most / 4)]

    def cost(candidate: tuple[core.Runner, int]) -> tuple[bool, bool, bool, int]:
        runner, used = candidate
        within = not runner.memory or used <= runner.memory
        return within, not runner.again, runner.actor, -runner.started

    return min(worth, key=cost)[0] if worth else None


def process_memory(pid: int) -> tuple[int, int]:
    """What a process uses beside files and the store, and the most that it ever had in memory, with
    those; bytes, 0 if it is gone."""
    values = read_values(f"/proc/{pid}/status", b"RssAnon:", b"VmHWM:")
    return values[0] << 10, values[1] << 10


def memory_in_use(source: str) -> tuple[int, int]:
    """Limit and use in bytes of a source: a control group's folder, or a file like /proc/meminfo;
    (0, 0) if there is no limit, or nothing tells. What the kernel would drop at once is not in
    use."""
    if source.endswith("meminfo"):
        total, available = read_values(source, b"MemTotal:", b"MemAvailable:")
        return total << 10, (total - available) << 10
    for limit, use, idle in (
        ("memory.max", "memory.current", b"inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", b"total_inactive_file"),
    ):
        most = read_number(f"{source}/{limit}")
        if most:
            (cached,) = read_values(f"{source}/memory.stat", idle)
            return most, max(0, read_number(f"{source}/{use}") - cached)
    return 0, 0
