"""Many references at once, and many threads.

plasmid, ray  get of a stored list of 10,000 references; a task with 10,000 reference arguments; a
              task with 3,000 returns; get of 10,000 objects: seconds of each
threads       8 threads of the driver and 8 of a worker put and drop small objects: how much more
              than one thread of each
bytearray     the same with bytearrays: what the interpreter's lock makes of 8 threads
"""

from __future__ import annotations

import threading
import time

from common import emit, main, peers, session, timings

MANY = 10_000
WINDOW = 0.5
LEAD = 0.1
ROUNDS = 5


def refs(name: str) -> None:
    with session(name, num_cpus=2) as library:
        many = [library.put(i) for i in range(MANY)]
        boxed = library.put(many)
        count = library.remote(lambda *values: len(values))
        split = library.remote(num_returns=3000)(lambda: list(range(3000)))
        library.get([count.remote(), *split.remote()])
        for metric, run in (
            ("get_boxed", lambda: library.get(boxed)),
            ("many_arguments", lambda: library.get(count.remote(*many))),
            ("many_returns", lambda: library.get(split.remote())),
            ("get_many", lambda: library.get(many)),
        ):
            emit(metric, timings(run, ROUNDS), "s")


def calls_by_threads(what: str, number: int, start: float, stop: float) -> int:
    """How often `number` threads of this process put and dropped a small object, or a bytearray."""
    import plasmid

    call, clock, done = getattr(plasmid, what, bytearray), time.monotonic, [0] * number

    def loop(me: int) -> None:
        while clock() < start:
            time.sleep(0.001)
        while clock() < stop:
            for _ in range(100):
                call(12)
            done[me] += 100

    threads = [threading.Thread(target=loop, args=(me,)) for me in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done)


def threaded(what: str) -> None:
    with session("plasmid", num_cpus=1) as plasmid:
        task = plasmid.remote(calls_by_threads)

        def rate(number: int) -> float:
            start = time.monotonic() + LEAD
            other = task.remote(what, number, start, start + WINDOW)
            mine = calls_by_threads(what, number, start, start + WINDOW)
            return mine + plasmid.get(other)

        rate(1)  # starts the worker
        emit("threads", [rate(8) / rate(1) for _ in range(ROUNDS)], "x one")


CONTENDERS = {
    **peers(refs),
    "threads": lambda: threaded("put"),
    "bytearray": lambda: threaded("bytearray"),
}

if __name__ == "__main__":
    main(CONTENDERS)
