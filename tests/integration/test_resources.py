"""What tasks may ask for beside CPUs: GPUs, memory, custom resources, a node; and what they get."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from typing import Any

import pytest
from support import STORE, Gate, arena, nothing_left, run_program, until

import plasmid
from plasmid.exceptions import TaskUnschedulableError
from plasmid.util.scheduling_strategies import (
    Exists,
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
)


@pytest.fixture(scope="module", autouse=True)
def rich(request: pytest.FixtureRequest) -> Iterator[None]:
    failed = request.session.testsfailed
    with nothing_left(unless=lambda: request.session.testsfailed > failed):
        plasmid.init(
            address="local",
            num_cpus=2,
            num_gpus=4,
            resources={"license": 2, "half": 0.5},
            labels={"zone": "a"},
            _memory=1000,
            object_store_memory=STORE,
        )
        yield
        plasmid.shutdown()
        gc.collect()


@plasmid.remote(num_cpus=0)
def visible() -> tuple[list[Any], str | None]:
    return plasmid.get_gpu_ids(), os.environ.get("CUDA_VISIBLE_DEVICES")


@plasmid.remote(num_cpus=0)
def wait_at(gate: Gate) -> list[Any]:
    gate.wait()
    return plasmid.get_gpu_ids()


def available(name: str) -> float:
    return plasmid.available_resources().get(name, 0.0)


def test_the_session_tells_what_it_has() -> None:
    have = plasmid.cluster_resources()
    assert have["CPU"] == 2.0
    assert have["GPU"] == 4.0
    assert have["memory"] == 1000.0
    assert have["license"] == 2.0
    assert have["half"] == 0.5
    assert have["node:127.0.0.1"] == 1.0
    assert plasmid.nodes()[0]["Resources"] == have
    assert plasmid.nodes()[0]["Labels"]["zone"] == "a"


def test_a_task_sees_the_gpus_that_it_holds() -> None:
    assert plasmid.get(visible.remote()) == ([], os.environ.get("CUDA_VISIBLE_DEVICES"))
    assert plasmid.get(visible.options(num_gpus=2).remote()) == ([0, 1], "0,1")
    assert plasmid.get(visible.options(num_gpus=0.5).remote()) == ([0], "0")
    assert plasmid.get(visible.remote()) == ([], os.environ.get("CUDA_VISIBLE_DEVICES"))
    assert plasmid.get_gpu_ids() == []


def test_gpus_of_running_tasks_differ_and_parts_share_one(gate: Gate) -> None:
    whole = [wait_at.options(num_gpus=1).remote(gate) for _ in range(2)]
    parts = [wait_at.options(num_gpus=0.4).remote(gate) for _ in range(3)]
    gate.await_arrivals(5)
    assert available("GPU") == pytest.approx(0.8)
    late = visible.options(num_gpus=1).remote()
    assert plasmid.wait([late], timeout=0.1)[0] == [], "more than one GPU is free, but no whole one"
    gate.open()
    assert sorted(plasmid.get(whole)) == [[0], [1]]
    assert sorted(plasmid.get(parts)) == [[2], [2], [3]]
    assert len(plasmid.get(late)[0]) == 1
    until(lambda: available("GPU") == 4.0)


def test_a_nested_task_sees_its_own_gpus_and_the_outer_one_has_its_back() -> None:
    @plasmid.remote(num_gpus=1)
    def outer() -> list[Any]:
        before = os.environ["CUDA_VISIBLE_DEVICES"]
        inner = plasmid.get(visible.options(num_gpus=2).remote())
        bare = plasmid.get(visible.remote())
        return [before, inner, bare, os.environ["CUDA_VISIBLE_DEVICES"], plasmid.get_gpu_ids()]

    before, inner, bare, after, ids = plasmid.get(outer.remote())
    assert before == after == str(ids[0])
    assert len(inner[0]) == 2
    assert ids[0] not in inner[0]
    assert bare == ([], os.environ.get("CUDA_VISIBLE_DEVICES"))


def test_a_task_that_waits_keeps_all_but_its_cpu(gate: Gate) -> None:
    @plasmid.remote(num_cpus=2, num_gpus=3, memory=600, resources={"license": 1})
    def outer(gate: Gate) -> Any:
        return plasmid.get(wait_at.remote(gate))

    ref = outer.remote(gate)
    gate.await_arrivals(1)
    assert available("CPU") == 2.0
    assert available("GPU") == 1.0
    assert available("memory") == 400.0
    assert available("license") == 1.0
    gate.open()
    plasmid.get(ref)
    until(lambda: available("GPU") == 4.0 and available("license") == 2.0)


@pytest.mark.parametrize(
    "asked", [{"resources": {"license": 1.5}}, {"memory": 501}, {"resources": {"half": 0.5}}]
)
def test_tasks_wait_for_what_others_hold(gate: Gate, asked: dict[str, Any]) -> None:
    first = wait_at.options(**asked).remote(gate)
    gate.await_arrivals(1)
    second = wait_at.options(**asked).remote(gate)
    assert plasmid.get(visible.options(resources={"license": 0.5}).remote())[0] == [], "this fits"
    assert plasmid.wait([second], timeout=0.1)[0] == []
    assert gate.arrived() == 1
    gate.open()
    plasmid.get([first, second])


def test_an_awaited_task_waits_for_what_it_needs_and_runs_then(gate: Gate) -> None:
    @plasmid.remote
    def outer() -> Any:
        return plasmid.get([visible.options(num_gpus=4).remote() for _ in range(3)])

    holder = wait_at.options(num_gpus=1).remote(gate)
    gate.await_arrivals(1)
    refs = [outer.remote() for _ in range(4)]
    assert plasmid.wait(refs, timeout=0.1)[0] == []
    gate.open()
    assert plasmid.get(refs) == [[([0, 1, 2, 3], "0,1,2,3")] * 3] * 4
    plasmid.get(holder)


def test_a_killed_worker_gives_everything_back(gate: Gate) -> None:
    @plasmid.remote(num_gpus=1.0, memory=10, resources={"license": 1}, max_retries=0)
    def die() -> None:
        os.kill(os.getpid(), 9)

    with pytest.raises(plasmid.exceptions.WorkerCrashedError):
        plasmid.get(die.remote())
    until(lambda: available("GPU") == 4.0 and available("license") == 2.0)
    assert available("memory") == 1000.0
    arena().check()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"num_gpus": 5}, r"visible\(\) asks for num_gpus=5, but the session has 4"),
        ({"memory": 1001}, "memory=1001, but the session has 1000"),
        ({"resources": {"license": 3}}, "license=3, but the session has 2"),
        ({"resources": {"unheard": 1}}, "unheard=1, but the session has 0"),
        ({"accelerator_type": "A100"}, "accelerator_type:A100"),
        ({"num_cpus": 3, "num_gpus": 9}, "num_cpus=3, num_gpus=9, but the session has num_cpus=2"),
        ({"label_selector": {"zone": "b"}}, "labels"),
        ({"scheduling_strategy": NodeLabelSchedulingStrategy({"zone": In("b")})}, "labels"),
        ({"scheduling_strategy": NodeAffinitySchedulingStrategy("ab" * 28, soft=False)}, "soft"),
    ],
)
def test_what_the_session_can_never_give_is_refused_by_name(
    asked: dict[str, Any], told: str
) -> None:
    with pytest.raises(TaskUnschedulableError, match=told):
        visible.options(**asked).remote()


def test_strategies_that_this_node_fulfils_let_a_task_run() -> None:
    node = plasmid.nodes()[0]["NodeID"]
    for asked in (
        {"scheduling_strategy": "SPREAD"},
        {"scheduling_strategy": "DEFAULT"},
        {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)},
        {"scheduling_strategy": NodeAffinitySchedulingStrategy("ab" * 28, soft=True)},
        {"scheduling_strategy": NodeLabelSchedulingStrategy({"zone": Exists()})},
        {"scheduling_strategy": NodeLabelSchedulingStrategy({}, soft={"zone": In("b")})},
        {"label_selector": {"zone": "in(a, b)", "ray.io/node-id": node}},
        {"label_selector": {"zone": "b"}, "fallback_strategy": [{"label_selector": {"zone": "a"}}]},
        {"resources": {"node:127.0.0.1": 0.01}},
        {"resources": {"node:__internal_head__": 0.01}},
    ):
        assert plasmid.get(visible.options(**asked).remote())[0] == []


def test_a_task_submits_by_the_same_rules() -> None:
    @plasmid.remote
    def outer() -> str:
        try:
            visible.options(label_selector={"zone": "b"}).remote()
        except TaskUnschedulableError as error:
            return str(error)
        return ""

    assert "'zone': 'a'" in plasmid.get(outer.remote())


def test_many_shapes_at_once_all_run() -> None:
    refs = [visible.options(num_cpus=i / 1000, memory=i).remote() for i in range(200)]
    assert len(plasmid.get(refs)) == 200


def program(environment: dict[str, str], text: str) -> str:
    return run_program(text, env={**os.environ, **environment})[0].strip()


GPU_PROGRAM = """
    import os, plasmid
    plasmid.init(address="local", num_cpus=1, num_gpus=2, object_store_memory=4 << 20)

    @plasmid.remote
    def seen():
        return plasmid.get_gpu_ids(), os.environ.get("CUDA_VISIBLE_DEVICES")

    print(plasmid.get([seen.options(num_gpus=n).remote() for n in (0, 2, 0.5)]))
    """


@pytest.mark.parametrize(
    ("environment", "seen"),
    [
        ({"CUDA_VISIBLE_DEVICES": "5,7"}, "[([], '5,7'), (['5', '7'], '5,7'), (['5'], '5')]"),
        (
            {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"},
            "[([], ''), ([0, 1], '0,1'), ([0], '0')]",
        ),
        (
            {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1", "CUDA_VISIBLE_DEVICES": "5,7"},
            "[([], '5,7'), (['5', '7'], '5,7'), (['5'], '5,7')]",
        ),
    ],
)
def test_devices_that_the_program_was_given_keep_their_names(
    environment: dict[str, str], seen: str
) -> None:
    assert program(environment, GPU_PROGRAM) == seen


def test_more_gpus_than_the_program_was_given_are_refused() -> None:
    text = """
        import plasmid
        try:
            plasmid.init(address="local", num_gpus=2)
        except ValueError as error:
            print(error)
        """
    told = program({"CUDA_VISIBLE_DEVICES": "5"}, text)
    assert told == "init: num_gpus=2, but CUDA_VISIBLE_DEVICES='5' names 1"
