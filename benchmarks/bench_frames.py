"""Values as programs have them: frames, small arrays, a dict of them, a long list.

plasmid, ray  put of each into warm memory, each ref dropped before the next put, and get of it
copy          the floor of a put: `numpy.copyto` of as many bytes as the frame has, between arrays
              used before; for the list `pickle.dumps` and a copy of its bytes

The frames: 10 float columns of a million rows, and one string column of a million rows.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from common import emit, main, peers, session, timings

ROWS = 1_000_000
ROUNDS = 15


def floats() -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(1).random((ROWS, 10)), columns=list("abcdefghij"))


def strings() -> pd.DataFrame:
    return pd.DataFrame({"s": pd.Series([f"value {i}" for i in range(ROWS)], dtype="str")})


def small_array() -> np.ndarray:
    return np.arange(10.0)


def small_arrays() -> dict[int, np.ndarray]:
    return {i: np.arange(10.0) for i in range(1000)}


def integers() -> list[int]:
    return list(range(ROWS))


# name -> the value, how often it is put in one measurement, what a figure is in
VALUES: dict[str, tuple[Callable[[], Any], int, str]] = {
    "frame": (floats, 1, "ms"),
    "strings": (strings, 1, "ms"),
    "array": (small_array, 2000, "us"),
    "arrays": (small_arrays, 2, "ms"),
    "list": (integers, 1, "ms"),
}
UNITS = {"ms": 1e3, "us": 1e6}


def store(name: str) -> None:
    with session(name, num_cpus=1, object_store_memory=1 << 30) as library:
        for what, (make, number, unit) in VALUES.items():
            value = make()

            def put(value: Any = value, number: int = number) -> None:
                for _ in range(number):
                    library.put(value)

            found = timings(put, ROUNDS, warm_up=3)
            emit(f"put_{what}", [s / number * UNITS[unit] for s in found], unit)
            ref = library.put(value)

            def get(ref: Any = ref, number: int = number) -> None:
                for _ in range(number):
                    library.get(ref)

            found = timings(get, ROUNDS, warm_up=3)
            get_unit = "us" if what in ("frame", "strings", "array") else "ms"
            emit(f"get_{what}", [s / number * UNITS[get_unit] for s in found], get_unit)
            del ref


def copy() -> None:
    column = strings()["s"].array.__arrow_array__()
    size = sum(buffer.size for part in column.chunks for buffer in part.buffers() if buffer)
    for what, nbytes in (("frame", ROWS * 80), ("strings", size)):
        source, target = np.ones(nbytes, np.uint8), np.ones(nbytes, np.uint8)
        found = timings(lambda s=source, t=target: np.copyto(t, s), ROUNDS, warm_up=3)
        emit(f"put_{what}", [s * 1e3 for s in found], "ms")
    value = integers()
    target = bytearray(len(pickle.dumps(value, 5)))

    def pickle_and_copy() -> None:
        target[:] = pickle.dumps(value, 5)

    emit("put_list", [s * 1e3 for s in timings(pickle_and_copy, ROUNDS, warm_up=3)], "ms")


CONTENDERS = {**peers(store), "copy": copy}

if __name__ == "__main__":
    main(CONTENDERS)
