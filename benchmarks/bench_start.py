"""How long a program waits for the library before its own work begins.

plasmid, ray  a process that only imports the library; in others, `init` to the first task's result
pass          the floor of the import: a process that does nothing
pool          the peer of the first result: ProcessPoolExecutor
"""

from __future__ import annotations

import subprocess
import sys

from common import emit, main, peers, timings

ROUNDS = 11

FIRST_RESULT = """
import time
import {name} as library
@library.remote
def first():
    return 1
began = time.perf_counter()
library.init(num_cpus=2)
library.get(first.remote())
print(time.perf_counter() - began)
library.shutdown()
"""

FIRST_RESULT_OF_POOL = """
import time
from concurrent.futures import ProcessPoolExecutor
began = time.perf_counter()
pool = ProcessPoolExecutor(2)
pool.submit(len, "a").result()
print(time.perf_counter() - began)
pool.shutdown()
"""


def python(program: str) -> str:
    """What `program` prints; a process of its own."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def whole_process(program: str) -> list[float]:
    return [s * 1e3 for s in timings(lambda: python(program), ROUNDS, warm_up=2)]


def first_result(program: str) -> list[float]:
    python(program)  # warms the disk cache
    return [float(python(program)) * 1e3 for _ in range(ROUNDS // 2)]


def library(name: str) -> None:
    emit("import", whole_process(f"import {name}"), "ms")
    emit("first_result", first_result(FIRST_RESULT.format(name=name)), "ms")


def nothing() -> None:
    emit("import", whole_process("pass"), "ms")


def pool() -> None:
    emit("first_result", first_result(FIRST_RESULT_OF_POOL), "ms")


CONTENDERS = {**peers(library), "pass": nothing, "pool": pool}

if __name__ == "__main__":
    main(CONTENDERS)
