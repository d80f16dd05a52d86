"""Remote functions: arguments, results, options, and what a task sees of its program."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
import textwrap
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from support import Gate, arena, run_program, until

import plasmid
from plasmid.exceptions import NotSupportedError, RayTaskError, TaskUnschedulableError

pytestmark = pytest.mark.usefixtures("session")


class Box:
    """A class of a module that workers can import."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Box) and other.content == self.content

    __hash__ = None  # type: ignore[assignment]

    def doubled(self) -> Box:
        return Box(self.content * 2)


@plasmid.remote
def identity(value: Any = None) -> Any:
    return value


@plasmid.remote
def add(a: Any, b: Any = 1, *more: Any, c: Any = 0, **others: Any) -> Any:
    return a + b + sum(more) + c + sum(others.values())


@plasmid.remote
def type_of(value: Any) -> str:
    return type(value).__name__


@plasmid.remote(num_cpus=1)
def wait_at(gate: Gate) -> int:
    gate.wait()
    return os.getpid()


# Arguments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        2**70,
        "text" * 50,
        b"x" * 10_000_000,
        [1, {"a": (2, {3})}],
        Box([1]),
        np.arange(100_000),
        np.arange(3),
        pd.DataFrame({"a": [1, 2], "b": ["x", None]}),
        pa.table({"a": [1, None]}),
        lambda: 1,
        ValueError("as a value"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_goes_to_a_task_and_comes_back(value: Any) -> None:
    ref = plasmid.put(value)
    for found in plasmid.get(
        [identity.remote(value), identity.remote(ref), identity.remote(value=ref)]
    ):
        assert type(found) is type(value)
        if isinstance(value, (np.ndarray, pd.DataFrame)):
            assert np.array_equal(found, value) or found.equals(value)
        elif callable(value):
            assert found() == 1
        elif isinstance(value, ValueError):
            assert found.args == value.args
        else:
            assert found == value


def test_arguments_by_position_and_name_plain_and_as_references() -> None:
    two, ten = plasmid.put(2), identity.remote(10)
    assert plasmid.get(add.remote(1)) == 2
    assert plasmid.get(add.remote(1, two)) == 3
    assert plasmid.get(add.remote(ten, two, ten, 5, c=two, d=ten, e=1)) == 40
    assert plasmid.get(add.remote(b=two, a=ten)) == 12
    assert plasmid.get(add.remote(two, two, two)) == 6


def test_a_reference_as_argument_arrives_as_its_value_and_inside_a_container_as_itself() -> None:
    ref = plasmid.put(1)
    kinds = [type_of.remote(x) for x in (ref, [ref], {"a": ref}, (ref,), Box(ref))]
    assert plasmid.get(kinds) == ["int", "list", "dict", "tuple", "Box"]

    @plasmid.remote
    def inner(box: Box, many: list[Any]) -> Any:
        assert [type(x).__name__ for x in (box.content, many[0][0])] == ["ObjectRef"] * 2
        return plasmid.get(box.content) + plasmid.get(many[0][0])

    assert plasmid.get(inner.remote(Box(ref), [[ref]])) == 2


@plasmid.remote
def get_argument(value: Any) -> Any:
    assert not isinstance(value, plasmid.ObjectRef)
    return plasmid.get(value)


@pytest.mark.parametrize("value", [1000, "text", None, [1, 2], {"a": 1}, Box(3)])
def test_get_of_an_argument_that_was_a_reference_is_its_value(value: Any) -> None:
    assert plasmid.get(get_argument.remote(plasmid.put(value))) == value


def test_get_of_a_resolved_array_is_that_array() -> None:
    @plasmid.remote
    def same(array: np.ndarray, *, named: np.ndarray) -> bool:
        return plasmid.get(array) is array and plasmid.get(named) is named

    array = plasmid.put(np.zeros(10))
    assert plasmid.get(same.remote(array, named=array))


@pytest.mark.parametrize("value", [1000, "text", None, Box(3)])
def test_get_of_an_argument_that_was_a_value_is_a_value_error(value: Any) -> None:
    with pytest.raises(ValueError, match="neither an ObjectRef"):
        plasmid.get(get_argument.remote(value))


def test_get_of_another_object_than_the_argument_is_refused_and_of_an_earlier_tasks_too() -> None:
    @plasmid.remote
    def other(box: Box) -> Any:
        return plasmid.get(Box(box.content))

    with pytest.raises(ValueError, match="neither"):
        plasmid.get(other.remote(plasmid.put(Box(1))))

    @plasmid.remote
    def nested(array: np.ndarray) -> Any:
        @plasmid.remote
        def inner() -> Any:
            return plasmid.get(array)

        return plasmid.get(inner.remote())

    with pytest.raises(ValueError, match="neither"):
        plasmid.get(nested.remote(plasmid.put(np.zeros(10))))


def test_arrays_arrive_as_read_only_views() -> None:
    @plasmid.remote
    def write(array: np.ndarray) -> None:
        array[0] = 1

    big = np.zeros(100_000)
    for argument in (big, plasmid.put(big)):
        with pytest.raises(ValueError, match="read-only"):
            plasmid.get(write.remote(argument))
    assert big[0] == 0


def test_arguments_are_copied_when_the_task_is_submitted(gate) -> None:
    @plasmid.remote(num_cpus=0)
    def later(gate: Gate, values: list[int], array: np.ndarray) -> tuple[int, float]:
        gate.wait()
        return len(values), float(array.sum())

    values, array = [1], np.zeros(10_000)
    ref = later.remote(gate, values, array)
    values.append(2)
    array[:] = 1
    gate.open()
    assert plasmid.get(ref) == (1, 0.0)


def test_an_argument_lives_until_its_task_has_run(gate) -> None:
    @plasmid.remote(num_cpus=0)
    def later(gate: Gate, array: np.ndarray, nested: list[Any]) -> float:
        gate.wait()
        return float(array.sum() + plasmid.get(nested[0]).sum())

    ref = later.remote(gate, plasmid.put(np.ones(10_000)), [plasmid.put(np.ones(1000))])
    for _ in range(3):
        plasmid.put(np.zeros(10_000))
    gate.open()
    assert plasmid.get(ref) == 11_000.0


def test_two_hundred_references_as_arguments() -> None:
    @plasmid.remote
    def total(*values: int, **named: int) -> int:
        return sum(values) + sum(named.values())

    refs = [identity.remote(n) for n in range(100)]
    named = {f"x{n}": plasmid.put(1) for n in range(100)}
    assert plasmid.get(total.remote(*refs, **named)) == sum(range(100)) + 100


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((1, 2), {}), ((1,), {"value": 2}), ((), {"wrong": 1})],
)
def test_arguments_that_do_not_fit_are_refused_before_anything_runs(args: Any, kwargs: Any) -> None:
    with pytest.raises(TypeError, match=r"type_of\(\)"):
        type_of.remote(*args, **kwargs)


def test_a_remote_function_is_not_called_directly() -> None:
    with pytest.raises(TypeError, match=r"\.remote\(\)"):
        identity(1)
    assert identity._function(3) == 3


# Functions ---------------------------------------------------------------------------------------


def test_closures_bring_values_functions_and_large_arrays() -> None:
    step, table = 3, np.arange(200_000)

    def helper(x: int) -> int:
        return int(table[x]) + step

    @plasmid.remote
    def work(x: int) -> int:
        return helper(x) + len(table)

    assert plasmid.get([work.remote(n) for n in range(3)]) == [200_003, 200_004, 200_005]


def test_closures_bring_references_that_live_as_long_as_the_function() -> None:
    ref = plasmid.put(np.ones(10_000))

    @plasmid.remote
    def work() -> float:
        return float(plasmid.get(ref).sum())  # noqa: F821

    first = work.remote()
    del ref
    assert plasmid.get(first) == 10_000
    assert plasmid.get(work.remote()) == 10_000


def test_a_remote_function_calls_another_one_and_passes_it_on() -> None:
    @plasmid.remote
    def twice(function: Any, x: int) -> int:
        return plasmid.get(function.remote(x)) + plasmid.get(add.remote(x, x))

    assert plasmid.get(twice.remote(identity, 5)) == 15
    assert plasmid.get(twice.remote(identity.options(num_cpus=0), 5)) == 15


def test_a_remote_function_is_pickled_with_its_options() -> None:
    pair = identity.options(num_returns=2, name="pair")

    @plasmid.remote
    def call(function: Any) -> list[Any]:
        return plasmid.get(function.remote((1, 2)))

    assert plasmid.get(call.remote(pair)) == [1, 2]
    assert plasmid.get(plasmid.get(plasmid.put(pair)).remote(["ab", "ab"])) == ["ab", "ab"]


def test_functions_that_are_not_defs_or_are_wrapped() -> None:
    @functools.wraps(add._function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return add._function(*args, **kwargs) * 10

    assert plasmid.get(plasmid.remote(lambda x: x + 1).remote(1)) == 2
    assert plasmid.get(plasmid.remote(wrapped).remote(1, 2)) == 30
    assert plasmid.get(plasmid.remote(Box.doubled).remote(Box(2))) == Box(4)


def test_a_function_changed_in_the_driver_is_the_one_that_was_sent() -> None:
    """As in Ray: it is pickled at the first call."""
    state = {"n": 1}

    @plasmid.remote
    def look() -> int:
        return state["n"]

    assert plasmid.get(look.remote()) == 1
    state["n"] = 2
    assert plasmid.get(look.remote()) == 1


def test_async_functions_run_to_their_end() -> None:
    @plasmid.remote
    async def slow(x: int) -> int:
        await asyncio.sleep(0)
        return x * 2

    @plasmid.remote
    async def broken() -> None:
        await asyncio.sleep(0)
        raise KeyError("async")

    assert plasmid.get([slow.remote(n) for n in range(3)]) == [0, 2, 4]
    with pytest.raises(KeyError, match="async"):
        plasmid.get(broken.remote())


def test_an_async_task_awaits_references() -> None:
    @plasmid.remote
    async def gather(refs: list[Any]) -> int:
        return sum(await asyncio.gather(*(asyncio.wrap_future(ref.future()) for ref in refs)))

    assert plasmid.get(gather.remote([identity.remote(n) for n in range(5)])) == 10


def test_what_a_module_keeps_between_tasks_stays_in_its_worker() -> None:
    @plasmid.remote(num_cpus=2)
    def count() -> tuple[int, int]:
        sys.plasmid_count = getattr(sys, "plasmid_count", 0) + 1  # type: ignore[attr-defined]
        return os.getpid(), sys.plasmid_count  # type: ignore[attr-defined]

    seen: dict[int, list[int]] = {}
    for pid, number in plasmid.get([count.remote() for _ in range(10)]):
        seen.setdefault(pid, []).append(number)
    assert os.getpid() not in seen
    assert all(sorted(numbers) == list(range(1, len(numbers) + 1)) for numbers in seen.values())


# Results -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 10, 100])
def test_several_results_are_a_list_of_references(count: int) -> None:
    @plasmid.remote(num_returns=count)
    def many() -> Any:
        return tuple(np.full(n, n) for n in range(count))

    refs = many.remote()
    assert len(refs) == count
    assert [len(array) for array in plasmid.get(refs)] == list(range(count))


@pytest.mark.parametrize("container", [tuple, list, iter])
def test_results_may_be_in_a_tuple_a_list_or_a_generator(container: Any) -> None:
    @plasmid.remote(num_returns=2)
    def two() -> Any:
        return container([1, 2]) if container is not iter else (n for n in (1, 2))

    a, b = two.remote()
    assert plasmid.get([b, a]) == [2, 1]


def test_a_generator_function_gives_its_items() -> None:
    @plasmid.remote(num_returns=3)
    def squares() -> Any:
        for n in range(3):
            yield n * n

    assert plasmid.get(squares.remote()) == [0, 1, 4]


def test_no_results_are_none_and_the_task_runs(gate) -> None:
    @plasmid.remote(num_returns=0)
    def nothing() -> int:
        gate.wait()
        return 5

    gate.open()
    assert nothing.remote() is None
    gate.await_arrivals(1)


@pytest.mark.parametrize(
    ("count", "value", "message"),
    [
        (2, (1, 2, 3), "num_returns=2.*3 values"),
        (3, (1, 2), "num_returns=3.*2 values"),
        (2, 5, "num_returns=2.*not int"),
        (2, None, "num_returns=2.*not NoneType"),
        (2, "ab", "num_returns=2.*not str"),
    ],
)
def test_another_number_of_results_is_an_error_on_each(
    count: int, value: Any, message: str
) -> None:
    for ref in identity.options(num_returns=count).remote(value):
        with pytest.raises(ValueError, match=message):
            plasmid.get(ref)


def test_an_endless_generator_is_not_run_to_its_end() -> None:
    @plasmid.remote(num_returns=2)
    def endless() -> Any:
        while True:
            yield 1

    with pytest.raises(ValueError, match="more than 2"):
        plasmid.get(endless.remote())


def test_a_generator_that_fails_half_way_is_an_error_on_the_results_left() -> None:
    @plasmid.remote(num_returns=3)
    def half() -> Any:
        yield 1
        raise KeyError("half")

    first, *left = half.remote()
    assert plasmid.get(first) == 1
    for ref in left:
        with pytest.raises(KeyError, match="half"):
            plasmid.get(ref)


def test_one_of_several_results_may_be_dropped() -> None:
    @plasmid.remote(num_returns=3)
    def three() -> Any:
        return np.ones(1000), np.ones(10_000), "c"

    _, middle, _ = three.remote()
    del _
    assert plasmid.get(middle).sum() == 10_000


def test_results_may_contain_references() -> None:
    @plasmid.remote
    def make(n: int) -> Any:
        return {"put": plasmid.put(np.arange(n)), "task": [add.remote(n, 1)]}

    found = plasmid.get(make.remote(1000))
    assert plasmid.get(found["put"]).sum() == 499_500
    assert plasmid.get(found["task"]) == [1001]


def test_a_result_that_is_a_reference_stays_one() -> None:
    @plasmid.remote
    def make() -> Any:
        return plasmid.put("inner")

    inner = plasmid.get(make.remote())
    assert isinstance(inner, plasmid.ObjectRef)
    assert plasmid.get(inner) == "inner"
    assert plasmid.get(identity.remote([inner])) == [inner]


def test_a_task_that_returns_its_argument_shares_nothing_that_is_lost() -> None:
    ref = plasmid.put(np.arange(10_000))
    result = identity.remote(ref)
    del ref
    assert plasmid.get(result)[-1] == 9_999


# Options -----------------------------------------------------------------------------------------


def test_options_change_one_call_only() -> None:
    assert len(identity.options(num_returns=2).remote((1, 2))) == 2
    assert isinstance(identity.remote(1), plasmid.ObjectRef)


def test_a_task_asking_for_more_cpus_than_there_are_is_refused() -> None:
    with pytest.raises(TaskUnschedulableError, match=r"identity\(\).*num_cpus=3.*has 2"):
        identity.options(num_cpus=3).remote(1)
    assert plasmid.get(identity.options(num_cpus=2).remote(1)) == 1


def test_options_that_would_be_ignored_are_refused() -> None:
    with pytest.raises(NotSupportedError):
        identity.options(runtime_env={"pip": []})


def test_the_name_is_an_option() -> None:
    with pytest.raises(RayTaskError) as caught:
        plasmid.get(add.options(name="my sum ☃").remote("a", 1))
    assert caught.value.function_name == "my sum ☃"


def cpus() -> float:
    return plasmid.available_resources().get("CPU", 0.0)


@pytest.mark.parametrize(
    ("num_cpus", "number", "left"),
    [(0, 6, 2.0), (0.5, 3, 0.5), (1, 1, 1.0), (2, 1, 0.0), (0.0001, 2, 1.9998)],
)
def test_running_tasks_hold_their_cpus(gate, num_cpus, number, left) -> None:
    until(lambda: cpus() == 2.0)
    refs = [wait_at.options(num_cpus=num_cpus).remote(gate) for _ in range(number)]
    gate.await_arrivals(number)
    assert cpus() == pytest.approx(left)
    assert ("CPU" in plasmid.available_resources()) is (left > 0)
    gate.open()
    assert len(set(plasmid.get(refs))) == number
    until(lambda: cpus() == 2.0)


def test_no_more_tasks_run_at_once_than_cpus_allow(gate) -> None:
    refs = [wait_at.options(num_cpus=0.75).remote(gate) for _ in range(4)]
    gate.await_arrivals(2)
    small = identity.options(num_cpus=0.5).remote("small")
    assert plasmid.get(small) == "small", "what fits goes past what does not"
    assert gate.arrived() == 2
    gate.open()
    assert len(plasmid.get(refs)) == 4


def test_a_task_that_waits_lends_its_cpu(gate) -> None:
    @plasmid.remote(num_cpus=2)
    def outer(gate: Gate) -> float:
        ref = wait_at.options(num_cpus=2).remote(gate)
        return plasmid.get([ref, identity.remote(4)])[1]

    ref = outer.remote(gate)
    gate.await_arrivals(1)
    gate.open()
    assert plasmid.get(ref) == 4


def test_resources_and_nodes_describe_the_session() -> None:
    assert plasmid.cluster_resources()["CPU"] == 2.0
    assert plasmid.cluster_resources()["object_store_memory"] == arena().heap_bytes
    (node,) = plasmid.nodes()
    assert node["Alive"] is True
    assert node["Resources"]["CPU"] == 2.0


@pytest.mark.parametrize(("num_cpus", "expected"), [(1, "1"), (2, "2"), (0.5, "1"), (0, "1")])
def test_numeric_libraries_get_as_many_threads_as_the_task_has_cpus(num_cpus, expected) -> None:
    @plasmid.remote(num_cpus=num_cpus)
    def threads() -> str | None:
        return os.environ.get("OMP_NUM_THREADS")

    assert plasmid.get(threads.remote()) == expected


# What a task sees --------------------------------------------------------------------------------


def test_a_task_sees_the_programs_path_folder_and_environment(tmp_path) -> None:
    out, _ = run_program(
        """
        import os, sys
        sys.path.insert(0, sys.argv[1] + "/mods")
        os.environ["GREETING"] = "hello"
        import plasmid
        @plasmid.remote
        def look():
            import mine
            return mine.X, os.getcwd(), os.environ["GREETING"], sys.argv[1:]
        print(plasmid.get(look.remote()))
        """,
        _folder_with_module(tmp_path),
        cwd=tmp_path,
    )
    assert out == f"('mine', '{tmp_path}', 'hello', ['{tmp_path}'])\n"


def test_a_path_added_after_init_is_seen_by_functions_exported_later(tmp_path) -> None:
    out, _ = run_program(
        """
        import sys
        import plasmid
        plasmid.init(num_cpus=1, object_store_memory=4 << 20)
        plasmid.get(plasmid.remote(lambda: 1).remote())
        sys.path.append(sys.argv[1] + "/mods")
        import mine
        print(plasmid.get(plasmid.remote(lambda: mine.X).remote()))
        """,
        _folder_with_module(tmp_path),
    )
    assert out == "mine\n"


def test_the_users_omp_num_threads_counts() -> None:
    out, _ = run_program(
        """
        import os, plasmid
        f = plasmid.remote(lambda: os.environ["OMP_NUM_THREADS"])
        plasmid.init(num_cpus=2, object_store_memory=4 << 20)
        print(plasmid.get([f.remote(), f.options(num_cpus=2).remote()]))
        """,
        env={**os.environ, "OMP_NUM_THREADS": "7"},
    )
    assert out == "['7', '7']\n"


def test_a_program_without_a_main_guard_works_as_a_script(tmp_path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import plasmid
        print("main runs once")
        class Pair:
            def __init__(self, a): self.a = a
        def helper(x): return Pair(x * FACTOR)
        FACTOR = 3
        @plasmid.remote
        def task(pair): return helper(pair.a)
        print(plasmid.get(task.remote(Pair(2))).a)
        """)
    )
    out, _ = run_program(
        "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')", str(script)
    )
    assert out == "main runs once\n6\n"


def _folder_with_module(folder: Path) -> str:
    (folder / "mods").mkdir()
    (folder / "mods" / "mine.py").write_text("X = 'mine'\n")
    return str(folder)


# Threads of the driver and of a task -------------------------------------------------------------


def test_eight_threads_submit_and_get_at_once() -> None:
    wrong: list[Any] = []

    def work(seed: int) -> None:
        refs = [add.remote(plasmid.put(seed), n) for n in range(60)]
        if plasmid.get(refs) != [seed + n for n in range(60)]:
            wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_threads_of_a_task_use_the_session() -> None:
    @plasmid.remote
    def outer() -> list[int]:
        found: list[int] = []
        threads = [
            threading.Thread(target=lambda n=n: found.append(plasmid.get(add.remote(n, 1))))
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(found)

    assert plasmid.get(outer.remote()) == [1, 2, 3, 4]


def test_the_first_call_of_a_function_by_many_threads_at_once() -> None:
    @plasmid.remote
    def fresh(x: int) -> int:
        return x

    barrier, found = threading.Barrier(8), []

    def work(n: int) -> None:
        barrier.wait()
        found.append(plasmid.get(fresh.remote(n)))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(8))


def test_tasks_of_one_shape_begin_in_the_order_of_their_submission(gate: Gate) -> None:
    @plasmid.remote(num_cpus=2)
    def first() -> None:
        gate.wait()

    @plasmid.remote(num_cpus=2)
    def begin() -> float:
        return time.monotonic()

    holds = first.remote()
    gate.await_arrivals(1)
    refs = [begin.remote() for _ in range(100)]
    gate.open()
    plasmid.get(holds)
    times = plasmid.get(refs)
    assert times == sorted(times)


def test_one_after_the_other_tasks_stay_on_a_warm_worker() -> None:
    pid = plasmid.remote(lambda: os.getpid())
    pids = []

    def all_are_idle() -> bool:
        stats = arena().stats()
        return stats["idle"] == stats["workers"]

    for _ in range(20):
        until(all_are_idle, "all are idle")
        pids.append(plasmid.get(pid.remote()))
    changes = sum(one != other for one, other in pairwise(pids))
    assert changes <= 3, "a worker that is not needed any more may leave meanwhile"
