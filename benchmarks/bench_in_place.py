"""An array of 1 GB made in place: its seal, and the get of it in another process.

plasmid  fills `empty(...)`, then: seal, and in a worker that has been started get of the array and
         a look at its last item; both together are the figure
copyto   what storing it by a copy would take at least: `numpy.copyto` between arrays used before
"""

from __future__ import annotations

import time

import numpy as np
from common import emit, main, session, timings

ITEMS = 1 << 27
ROUNDS = 7


def get_and_look(box: list) -> float:
    """Seconds that a worker needs for the array behind the reference in `box`."""
    import plasmid

    began = time.perf_counter()
    array = plasmid.get(box[0])
    last = array[-1]
    seconds = time.perf_counter() - began
    assert last == 7.0
    return seconds


def plasmid() -> None:
    with session("plasmid", num_cpus=1, object_store_memory=3 << 30) as library:
        look = library.remote(get_and_look)
        found = []
        for _ in range(ROUNDS + 1):
            array = library.empty(ITEMS)
            array[:] = 7.0
            library.get(look.remote([library.put(array[:1].copy() * 0 + 7)]))  # the worker is awake
            began = time.perf_counter()
            ref = library.seal(array)
            sealed = time.perf_counter() - began
            found.append((sealed + library.get(look.remote([ref]))) * 1e6)
            del array, ref
        emit("in_place", found[1:], "us")


def copyto() -> None:
    source, target = np.ones(ITEMS), np.ones(ITEMS)
    emit("in_place", [s * 1e6 for s in timings(lambda: np.copyto(target, source), 3)], "us")


CONTENDERS = {"plasmid": plasmid, "copyto": copyto}

if __name__ == "__main__":
    main(CONTENDERS)
