"""Small objects in one process: put then drop, and get.

plasmid, ray  `put(x)`, the ref dropped at once; `get(ref)` of an int
dict          the floor in pure Python: store under a new key and delete; look up
"""

from __future__ import annotations

from common import emit, main, peers, rates, session

NUMBER = 50_000
REFS = 1_000


def store(name: str) -> None:
    with session(name, num_cpus=1) as library:
        put, get = library.put, library.get

        def put_and_drop(number: int, value: object) -> None:
            for _ in range(number):
                put(value)

        refs = [put(i) for i in range(REFS)]

        def get_each(number: int) -> None:
            for _ in range(number // REFS):
                for ref in refs:
                    get(ref)

        text = b"x" * 100
        number = NUMBER if name == "plasmid" else NUMBER // 20
        emit("put_int", rates(lambda n: put_and_drop(n, 12345), number), "1/s")
        emit("put_100_bytes", rates(lambda n: put_and_drop(n, text), number), "1/s")
        emit("get_int", rates(get_each, number), "1/s")


def dictionary() -> None:
    table: dict[int, object] = {}

    def put_and_drop(number: int) -> None:
        for key in range(number):
            table[key] = 12345
            del table[key]

    filled = dict.fromkeys(range(REFS), 12345)

    def get_each(number: int) -> None:
        for _ in range(number // REFS):
            for key in range(REFS):
                filled[key]

    emit("put_int", rates(put_and_drop, NUMBER), "1/s")
    emit("get_int", rates(get_each, NUMBER), "1/s")


CONTENDERS = {**peers(store), "dict": dictionary}

if __name__ == "__main__":
    main(CONTENDERS)
