"""1, 2 and 4 processes putting small objects (and dropping them) at the same time.

The driver is the first process; each further one is a worker that runs the same loop as a task.
All count what they did in the same window of the system's monotonic clock; the sum is the rate.
With more processes than cores it shows what the lock costs when its holder loses the core.
"""

from __future__ import annotations

import time

from common import emit, main, session

WINDOW = 0.5  # seconds
LEAD = 0.1  # from the decision to the start, so that everyone is there
ROUNDS = 5


def puts_between(start: float, stop: float) -> int:
    """How often this process put and dropped a small object from `start` to `stop`."""
    import plasmid

    put, clock = plasmid.put, time.monotonic
    while clock() < start:
        pass
    done = 0
    while clock() < stop:
        for _ in range(100):  # so that the clock is a small part
            put(12345)
        done += 100
    return done


def processes(number: int) -> None:
    with session("plasmid", num_cpus=max(1, number - 1)) as plasmid:
        task = plasmid.remote(puts_between)
        found = []
        for _ in range(ROUNDS + 1):  # the first finds the workers not yet started
            start = time.monotonic() + LEAD
            stop = start + WINDOW
            others = [task.remote(start, stop) for _ in range(number - 1)]
            total = puts_between(start, stop) + sum(plasmid.get(others))
            found.append(total / WINDOW)
        emit("put_together", found[1:], "1/s")


CONTENDERS = {
    "1 process": lambda: processes(1),
    "2 processes": lambda: processes(2),
    "4 processes": lambda: processes(4),
}

if __name__ == "__main__":
    main(CONTENDERS)
