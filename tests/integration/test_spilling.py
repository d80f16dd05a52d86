"""More than fits into the store: objects go to the disk, and come back when they are asked for."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support import STORE, Gate, arena, run_program, until

import plasmid
from plasmid.exceptions import (
    ObjectFreedError,
    ObjectLostError,
    ObjectReconstructionFailedError,
    ObjectStoreFullError,
    SpillFolderError,
)

pytestmark = pytest.mark.usefixtures("session")

PART = STORE // 8
MANY = 24
"""Parts, three times as much as fits."""


def part(value: float = 0) -> np.ndarray[Any, Any]:
    return np.full(PART // 8 - 512, value)


def is_part(array: np.ndarray[Any, Any], value: float) -> bool:
    return len(array) == PART // 8 - 512 and bool((array == value).all())


def on_disk() -> int:
    return sum(each.state == "spilled" for each in arena().objects())


def disk_is_empty() -> bool:
    """But for functions, which live as long as the program."""
    return bool(arena().stats()["disk_used"] < PART)


@pytest.fixture(autouse=True)
def nothing_on_disk() -> Any:
    yield
    if plasmid.is_initialized():
        until(disk_is_empty, "copies are left on disk")


@plasmid.remote
def make(value: float) -> np.ndarray[Any, Any]:
    return part(value)


@plasmid.remote
def first(array: np.ndarray[Any, Any]) -> float:
    return float(array[0])


@plasmid.remote
def ends(*arrays: np.ndarray[Any, Any]) -> list[float]:
    return [float(array[-1]) for array in arrays]


def fill(n: int = 16) -> list[Any]:
    """Objects that make all others go: twice as much as fits."""
    return [plasmid.put(part()) for _ in range(n)]


# ---- values ------------------------------------------------------------------------------------


def test_three_times_as_much_as_fits_is_put_and_got() -> None:
    refs = [plasmid.put(part(n)) for n in range(MANY)]
    assert on_disk() > MANY // 2
    for _ in range(2):
        for n, ref in enumerate(refs):
            assert is_part(plasmid.get(ref), n)
    arena().check()


def test_every_kind_of_value_comes_back_as_it_was() -> None:
    inner = plasmid.put(part(4))
    values: list[Any] = [
        b"x" * 100_000,
        "text " * 20_000,
        list(range(10_000)),
        {"a": np.arange(50_000), "b": [np.ones((100, 100), order="F"), "c"]},
        dict.fromkeys(range(100), inner),
        (inner, b"y" * 2000),
        pd.DataFrame({"n": np.arange(10_000), "s": [str(n) for n in range(10_000)]}),
        np.arange(20_000)[::3],
    ]
    refs = [plasmid.put(value) for value in values]
    fill(MANY)
    # One that has just been dropped may be on its way to the disk by a watcher thread.
    until(
        lambda: all(
            each.state == "spilled"
            for each in arena().objects()
            if each.size >= 1024 and each.kept != "session"
        ),
        lambda: f"what nobody looks at has stayed: {arena().objects()}",
    )
    for value, ref in zip(values, refs, strict=True):
        found = plasmid.get(ref)
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(found, value)
        elif isinstance(value, np.ndarray):
            np.testing.assert_array_equal(found, value)
        elif isinstance(value, dict) and "a" in value:
            np.testing.assert_array_equal(found["a"], value["a"])
            assert found["b"][0].flags.f_contiguous
            assert found["b"][1] == "c"
        else:
            assert found == value
    assert is_part(plasmid.get(inner), 4)


def test_many_small_values() -> None:
    refs = [plasmid.put(np.full(600, n)) for n in range(MANY * 2000)]
    assert on_disk() > MANY * 1000
    for n in range(0, MANY * 2000, 997):
        assert plasmid.get(refs[n])[17] == n
    arena().check()


def test_what_somebody_looks_at_stays_where_it_is() -> None:
    ref = plasmid.put(part(5))
    view = plasmid.get(ref)
    at = view.ctypes.data
    assert len(fill(MANY)) == MANY
    assert is_part(view, 5)
    assert plasmid.get(ref).ctypes.data == at
    del ref
    fill(MANY)
    assert is_part(view, 5)


def test_writable_copies_and_arrays_in_place() -> None:
    made = plasmid.empty((PART // 8 - 1024,))
    made[:] = 6
    ref = plasmid.put(made)
    fill(MANY)
    del made
    fill(MANY)
    assert on_disk() > 0
    copy = plasmid.get(ref, writable=True)
    copy += 1
    assert (copy == 7).all()
    assert (plasmid.get(ref) == 6).all()


def test_a_freed_object() -> None:
    ref = plasmid.put(part(1))
    fill()
    plasmid.free(ref)
    with pytest.raises(ObjectFreedError):
        plasmid.get(ref)


# ---- tasks -------------------------------------------------------------------------------------


def test_results_that_nobody_takes_make_room_for_others() -> None:
    refs = [make.remote(n) for n in range(MANY)]
    ready, _ = plasmid.wait(refs, num_returns=MANY, timeout=60)
    assert len(ready) == MANY
    assert on_disk() > 0
    assert plasmid.get([first.remote(ref) for ref in refs]) == list(range(MANY))
    assert is_part(plasmid.get(refs[0]), 0)


def test_arguments_that_are_on_disk_are_brought_back() -> None:
    refs = [plasmid.put(part(n)) for n in range(MANY)]
    assert plasmid.get(ends.remote(refs[0], refs[9], refs[20])) == [0, 9, 20]
    results = [first.remote(plasmid.put(part(n))) for n in range(MANY)]
    assert plasmid.get(results, timeout=60) == list(range(MANY))


def test_what_queued_tasks_take_comes_back_while_others_run(gate: Gate) -> None:
    @plasmid.remote
    def waits() -> None:
        gate.wait()

    refs = [plasmid.put(part(n)) for n in range(MANY)]
    waiting = [waits.remote() for _ in range(2)]
    gate.await_arrivals(2)
    results = [first.remote(refs[n]) for n in range(2)]

    def are_back() -> bool:
        states = {each.id: each.state for each in arena().objects()}
        return [states[ref.binary()] for ref in refs[:2]] == ["sealed"] * 2

    until(are_back, lambda: f"still on disk: {arena().dump()}")
    gate.open()
    assert plasmid.get(results) == [0, 1]
    plasmid.get(waiting)


def test_items_of_a_generator_that_nobody_has_taken() -> None:
    @plasmid.remote(num_returns="streaming")
    def items(n: int) -> Any:
        for value in range(n):
            yield part(value)

    stream = items.remote(MANY)
    plasmid.wait([stream.completed()], timeout=60)
    assert on_disk() > 0
    for n, ref in enumerate(stream):
        assert is_part(plasmid.get(ref), n)


def test_actors_and_event_loops() -> None:
    @plasmid.remote
    class Keeper:
        def __init__(self) -> None:
            self.refs: list[Any] = []

        def keep(self, n: int) -> None:
            self.refs.append(plasmid.put(part(n)))

        def total(self) -> float:
            return sum(float(plasmid.get(ref)[0]) for ref in self.refs)

    async def all_of(refs: list[Any]) -> list[float]:
        return [float((await ref)[-1]) for ref in refs]

    keeper = Keeper.remote()
    plasmid.get([keeper.keep.remote(n) for n in range(MANY)])
    assert plasmid.get(keeper.total.remote()) == sum(range(MANY))
    refs = [plasmid.put(part(n)) for n in range(MANY)]
    assert asyncio.run(all_of(refs)) == list(range(MANY))
    plasmid.kill(keeper)


def test_many_who_want_the_same_at_the_same_time() -> None:
    ref = plasmid.put(part(3))
    fill()
    restores = arena().stats()["restores"]
    found: list[float] = []
    threads = [
        threading.Thread(target=lambda: found.append(float(plasmid.get(ref)[0]))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    assert plasmid.get([first.remote(ref) for _ in range(8)]) == [3] * 8
    for thread in threads:
        thread.join()
    assert found == [3] * 8
    assert arena().stats()["restores"] - restores <= 2


def test_all_that_is_in_use_at_once_must_fit() -> None:
    refs = [plasmid.put(part(n)) for n in range(MANY)]
    with pytest.raises(ObjectStoreFullError, match="Held by driver"):
        plasmid.get(refs)
    assert is_part(plasmid.get(refs[-1]), MANY - 1)


def test_an_object_as_large_as_the_store(gate: Gate) -> None:
    for n in range(MANY):
        plasmid.get(plasmid.put({"n": n, "a": part(n), "b": ["x" * 3000] * n}))
    large = int(STORE * 0.97) // 8
    ref = plasmid.put(np.full(large, 7.0))
    assert plasmid.get(ref)[large - 1] == 7
    spills = arena().stats()["spills"]
    with pytest.raises(ObjectStoreFullError, match="even if all others go"):
        plasmid.put(np.zeros(STORE // 8 + 1))
    assert arena().stats()["spills"] == spills, "others went for what never fits"


# ---- lost objects ------------------------------------------------------------------------------


def damage() -> None:
    """Every copy on disk, by its owner: the driver."""
    for entry in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue
        fd = int(entry)
        if name.startswith(os.environ["TMPDIR"]) and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_RDWR:
            for at in written(fd):
                os.pwrite(fd, b"damage", at + 77)


def written(fd: int) -> Iterator[int]:
    """Offsets of the pages of a file with holes that have been written."""
    end = 0
    with contextlib.suppress(OSError):  # the last hole
        while True:
            start = os.lseek(fd, end, os.SEEK_DATA)
            end = os.lseek(fd, start, os.SEEK_HOLE)
            yield from range(start, end, 4096)


def count(path: Path) -> int:
    return len(path.read_bytes()) if path.exists() else 0


@plasmid.remote
def make_and_count(path: Path, value: float, *takes: Any) -> np.ndarray[Any, Any]:
    with path.open("ab") as file:
        file.write(b".")
    return part(value + sum(float(each[0]) for each in takes))


def test_what_the_user_has_named_goes_like_all_others() -> None:
    ref = plasmid.put(np.arange(1000), name="thousand", lifetime="session")
    fill(MANY)

    def is_away() -> bool:
        return any(
            each.id == ref.binary() and each.state == "spilled" for each in arena().objects()
        )

    until(is_away, lambda: f"it has stayed: {arena().dump()}")
    assert int(plasmid.get(plasmid.get_object("thousand"))[999]) == 999
    plasmid.delete_object("thousand")


def test_functions_stay_and_so_are_not_lost() -> None:
    text = "words " * 1000

    @plasmid.remote
    def words() -> int:
        return len(text.split())

    assert plasmid.get(words.remote()) == 1000
    fill(MANY)
    damage()
    elsewhere = words.options(runtime_env={"env_vars": {"NEW": "1"}})
    assert plasmid.get(elsewhere.remote()) == 1000


def test_a_lost_object_that_was_put_is_told_of() -> None:
    ref, other = plasmid.put(part(1)), plasmid.put(part(2))
    fill()
    damage()
    for each in (ref, other):
        with pytest.raises(ObjectLostError, match="is lost: its copy on disk is damaged"):
            plasmid.get(each)


def test_a_lost_result_is_made_again(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    ref = make_and_count.remote(runs, 5)
    plasmid.wait([ref])
    fill()
    damage()
    assert is_part(plasmid.get(ref), 5)
    assert is_part(plasmid.get(ref), 5)
    assert count(runs) == 2
    fill()
    assert plasmid.get(first.remote(ref)) == 5


def test_what_it_was_made_from_is_made_again_too(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    base = make_and_count.remote(one, 5)
    ref = make_and_count.remote(two, 1, base)
    plasmid.wait([ref])
    fill()
    damage()
    assert plasmid.get(first.remote(ref)) == 6
    assert (count(one), count(two)) == (2, 2)


def test_without_retries_or_its_arguments_it_stays_lost(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    once = make_and_count.options(max_retries=0).remote(runs, 5)
    orphan = make_and_count.remote(runs, 1, plasmid.put(part(2)))
    plasmid.wait([once, orphan], num_returns=2)
    fill()
    damage()
    for ref in (once, orphan):
        with pytest.raises(ObjectLostError, match="cannot be made again"):
            plasmid.get(ref)
    assert count(runs) == 2


def test_when_it_cannot_be_made_again_the_error_says_why(tmp_path: Path) -> None:
    @plasmid.remote
    def fails_later(path: Path) -> Any:
        if path.exists():
            raise ValueError("not twice")
        path.touch()
        return part(1)

    @plasmid.remote
    def differs_later(path: Path, later: Any) -> Any:
        if path.exists():
            return later
        path.touch()
        return part(1)

    refs = [
        fails_later.remote(tmp_path / "a"),
        differs_later.remote(tmp_path / "b", 1),
        differs_later.remote(tmp_path / "c", (1, [2])),
    ]
    plasmid.wait(refs, num_returns=3)
    fill()
    damage()
    with pytest.raises(ObjectReconstructionFailedError, match="not twice"):
        plasmid.get(refs[0])
    for ref in refs[1:]:
        with pytest.raises(ObjectReconstructionFailedError, match="returns something else"):
            plasmid.get(ref)
    arena().check()


# ---- sessions ----------------------------------------------------------------------------------


def test_a_line_says_that_it_has_begun_and_the_report_what_is_there(no_session: None) -> None:
    out, err = run_program(
        f"""
        import numpy as np, plasmid
        from plasmid._private.internal_api import memory_summary
        plasmid.init(num_cpus=1, object_store_memory={STORE})
        print("on disk" in memory_summary(stats_only=True))
        refs = [plasmid.put(np.full({PART // 8}, n)) for n in range(20)]
        text = memory_summary()
        print("on disk" in text, "spilled" in text, " disk " in text)
        print(f"while less than {{{STORE} // 16:,}} bytes are free" in text)
        """
    )
    assert out == "False\nTrue True True\nTrue\n"
    assert err.count("are spilled to") == 1


def test_the_folder_is_the_users_to_choose(no_session: None, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "spill"
    program = f"""
        import os, shutil, sys
        import numpy as np, plasmid
        plasmid.init(num_cpus=1, object_store_memory={STORE}, **eval(sys.argv[2]))
        print(os.path.isdir(sys.argv[1]), os.listdir(sys.argv[1]))
        shutil.rmtree(sys.argv[1])  # takes nothing away
        refs = [plasmid.put(np.full({PART // 8}, n)) for n in range(20)]
        print([plasmid.get(ref)[0] for ref in refs] == list(range(20)))
        """
    config = f'{{"type": "filesystem", "params": {{"directory_path": "{folder}"}}}}'
    for options in (
        {"object_spilling_directory": str(folder)},
        {"_system_config": {"object_spilling_config": config}},
    ):
        out, err = run_program(program, str(folder), repr(options))
        assert out == "True []\nTrue\n"
        assert str(folder) in err
    env = {**os.environ, "PLASMID_SPILL_FOLDER": str(folder)}
    assert run_program(program, str(folder), "{}", env=env)[0] == "True []\nTrue\n"


def test_a_folder_that_cannot_be(no_session: None, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpillFolderError, match="objects cannot be spilled to"):
        plasmid.init(object_spilling_directory=str(tmp_path / "file" / "below"))
    assert not plasmid.is_initialized()


def test_so_much_and_no_more(no_session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLASMID_SPILL_BYTES", str(2 * STORE))
    with plasmid.init(num_cpus=1, object_store_memory=STORE):
        refs: list[Any] = []
        with pytest.raises(ObjectStoreFullError, match="have been spilled, more may not"):
            refs.extend(plasmid.put(part(n)) for n in range(40))
        assert len(refs) >= 20
        last = refs[20:]
        del refs[1:]  # room for one to come back
        assert is_part(plasmid.get(refs[0]), 0)
        assert all(is_part(plasmid.get(ref), n) for n, ref in enumerate(last, 20))
        del refs, last
        until(disk_is_empty)
    monkeypatch.setenv("PLASMID_SPILL_BYTES", "much")
    with pytest.raises(ValueError, match="PLASMID_SPILL_BYTES is 'much'"):
        plasmid.init()


def test_another_program_reads_what_is_on_disk(no_session: None) -> None:
    with plasmid.init(num_cpus=1, object_store_memory=STORE) as context:
        refs = [plasmid.put(part(n)) for n in range(MANY)]
        out, _ = run_program(
            """
            import sys, plasmid
            plasmid.init(sys.argv[1])
            ids = sys.argv[2].split()
            refs = [plasmid.ObjectRef.from_hex(each) for each in ids]
            print([int(plasmid.get(ref)[0]) for ref in refs] == list(range(len(ids))))
            print(len([plasmid.put(plasmid.get(ref) + 1) for ref in refs]))
            """,
            str(context.address_info["address"]),
            " ".join(ref.hex() for ref in refs),
        )
        assert out == f"True\n{MANY}\n"
        assert all(is_part(plasmid.get(ref), n) for n, ref in enumerate(refs))
        arena().check()
