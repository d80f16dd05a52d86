"""Bounds that the processes of a session share."""

from __future__ import annotations

import math

WORKERS_PER_CPU, SPARE_WORKERS = 4, 8


def most_workers(cpus: float) -> int:
    """Most workers at a time: those blocked in `get` need others to run what they wait for. Past
    this, tasks that are waited for run on the stack of who waits."""
    return SPARE_WORKERS + WORKERS_PER_CPU * math.ceil(cpus)
