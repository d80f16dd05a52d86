"""Damaged bytes: an exception or some value, never a read outside of the block.

The stored bytes end where a page without access begins; a read behind them kills the process. One
command: `pytest tests/unit/test_serialize_fuzz.py`, longer with --slow.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

_PROGRAM = '''
import array, ctypes, faulthandler, mmap, random, resource, sys, warnings
import numpy as np, pandas as pd, pyarrow as pa
sys.path.insert(0, sys.argv[1])
from serialize_store import stored
from plasmid import serialize
from plasmid.exceptions import ObjectCorruptedError
from plasmid.serialize import layout

seed, rounds = int(sys.argv[2]), int(sys.argv[3])
faulthandler.enable()
warnings.simplefilter("ignore")
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))  # a length that was damaged
libc = ctypes.CDLL(None)
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
PAGE = mmap.PAGESIZE

def fenced(data):
    """The bytes, right before a page that nobody may touch."""
    pages = (len(data) + PAGE - 1) // PAGE
    area = mmap.mmap(-1, (pages + 1) * PAGE)
    start = pages * PAGE - len(data)
    area[start : start + len(data)] = data
    at = ctypes.addressof(ctypes.c_char.from_buffer(area))
    assert libc.mprotect(at + pages * PAGE, PAGE, 0) == 0
    return memoryview(area)[start : start + len(data)].toreadonly()

def touch(value):
    """What a program would look at first."""
    for name in ("shape", "nbytes", "dtype", "schema", "type"):
        getattr(value, name, None)
    if isinstance(value, np.ndarray) and value.size:
        value.tobytes()
    if isinstance(value, list) and type(value[0]).__name__ == "Tensor":
        for tensor in value:
            tensor.sum()
    if isinstance(value, pa.Table | pa.Array | pa.ChunkedArray) and len(value):
        for column in value.columns if isinstance(value, pa.Table) else [value]:
            ends(column)
    return len(value) if hasattr(value, "__len__") and getattr(value, "ndim", 1) else 0

def ends(column):
    """Of a large value only these are looked at when it is loaded: see arrow._validate()."""
    if column.nbytes <= layout.CHECKED:
        column.to_pylist()
    elif pa.types.is_primitive(column.type):
        column[0], column[len(column) - 1]

in_place = layout.HEAD_BUFFER.pack(b"PLSM", layout.VERSION, layout.BUFFER, 4196, 4096)
values = [
    np.arange(30.0), np.arange(24).reshape(2, 3, 4)[:, ::-1], np.zeros((1, 2, 3, 4), ">i2"),
    np.zeros(3, [("a", "i4"), ("b", "U3")]), b"x" * 500, bytearray(b"y" * 500),
    [1, "two", {"three": np.arange(100)}, array.array("d", [1, 2])],
    pa.table({"a": [1, None, 3], "s": ["x", None, "z"]}), pa.array([[1], [2, 3]]),
    pa.array(["a", "b"]).dictionary_encode(), {"in": pa.array(["x", "yy"] * 50)},
    pd.DataFrame({"a": [1.0, 2.0], "s": ["x", None], "c": pd.Categorical(["u", "v"])}),
    memoryview(np.arange(50)), np.ma.masked_array(np.arange(50.0), np.arange(50) % 2),
    [array.array("d", range(60)), np.arange(99).view(np.recarray), np.matrix([[1, 2]] * 50)],
    # More than is looked at in full.
    pa.table({"a": range(4000), "s": [str(n) for n in range(4000)]}),
    pa.array([[n, n] for n in range(2000)]), {"in": [pa.array(range(4000)), "and so on"]},
    pd.DataFrame({"a": np.arange(4000.0), "s": [str(n) for n in range(4000)]}),
]
assert sum(stored(value)[0].nbytes > layout.CHECKED for value in values) == 4
if len(sys.argv) > 4:
    import torch
    values += [[torch.arange(99.0), torch.ones(3, 4, dtype=torch.int16).T, torch.empty(0)]]
whole = [bytes(stored(value)[0]) for value in values] + [in_place.ljust(4196, b"z")]
rng = random.Random(seed)
outcomes = {"value": 0, "damaged": 0, "error": 0}
for _ in range(rounds):
    data = bytearray(rng.choice(whole))
    kind = rng.random()
    if kind < 0.15:
        del data[rng.randrange(len(data)) :]
    else:
        # where lengths, types and places stand, or anywhere
        first = 0 if kind < 0.4 else rng.randrange(min(len(data), 2048 if kind < 0.8 else 1 << 20))
        for _ in range(rng.choice((1, 1, 2, 8))):
            at = rng.randrange(first, min(first + 160, len(data)))
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    buffer = fenced(bytes(data))
    writable = rng.random() < 0.2
    try:
        serialize.describe(buffer, ())
    except ObjectCorruptedError:
        pass
    try:
        touch(serialize.load(bytearray(buffer) if writable else buffer, (), writable))
        outcomes["value"] += 1
    except ObjectCorruptedError:
        outcomes["damaged"] += 1
    except Exception:
        outcomes["error"] += 1
print(outcomes)
assert outcomes["damaged"] > rounds / 10
'''


def fuzz(seed: int, rounds: int) -> None:
    here = str(Path(__file__).parent)
    more = ["torch"] if find_spec("torch") else []
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, here, str(seed), str(rounds), *more],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"seed {seed}: {done.stdout}{done.stderr}"


@pytest.mark.parametrize("seed", range(2))
def test_damaged_bytes_are_an_exception_or_some_value(seed: int) -> None:
    fuzz(seed, 5000)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
def test_damaged_bytes_for_long(seed: int) -> None:
    fuzz(seed, 100_000)
