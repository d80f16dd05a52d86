"""What a freshly forked worker is told."""

from __future__ import annotations

from dataclasses import dataclass

from plasmid.runtime.environment import ThreadLimit


@dataclass(frozen=True, slots=True)
class WorkerStart:
    """All that a worker needs to take part in its session; `worker.main(start)` is called with it.

    When it is made, the process is ready for tasks in every other respect: stdout and stderr are
    the files that the driver follows, sys.path and sys.argv are the driver's, SIGINT raises
    KeyboardInterrupt. Attaching to the arena is the last step: a worker that dies before it counts
    as one that could not start, and the keeper becomes careful.
    """

    arena_fd: int
    bell_fd: int
    driver_pidfd: int
    threads: ThreadLimit
    """Call `threads.set(num_cpus)` before a task."""
