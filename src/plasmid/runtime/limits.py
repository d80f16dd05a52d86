"""Bounds that the processes of a session share."""

from __future__ import annotations

import math

WORKERS_PER_CPU, SPARE_WORKERS = 4, 8


def most_workers(cpus: float) -> int:
    """Most workers at a time: those blocked in `get` need others to run what they wait for. Past
    this, tasks that are waited for run on the stack of who waits."""
    return SPARE_WORKERS + WORKERS_PER_CPU * math.ceil(cpus)


def utmost_workers(cpus: float) -> int:
    """Most workers when all of them wait, and have for a moment, for tasks that none can run on its
    stack: in coroutines, in threads, below an alarm."""
    return max(most_workers(cpus), min(8 * most_workers(cpus), 512))
