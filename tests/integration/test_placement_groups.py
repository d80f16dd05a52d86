"""Placement groups: reserved together, used by the tasks that name them, given back."""

from __future__ import annotations

import gc
import pickle
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support import STORE, Gate, arena, nothing_left, run_program, until

import plasmid
from plasmid.engine import current
from plasmid.exceptions import TaskPlacementGroupRemoved
from plasmid.ids import PlacementGroupID
from plasmid.util import (
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from plasmid.util.placement_group import PlacementGroup
from plasmid.util.scheduling_strategies import PlacementGroupSchedulingStrategy


@pytest.fixture(scope="module", autouse=True)
def rich(request: pytest.FixtureRequest) -> Iterator[None]:
    failed = request.session.testsfailed
    with nothing_left(unless=lambda: request.session.testsfailed > failed):
        plasmid.init(address="local", num_cpus=3, num_gpus=2, object_store_memory=STORE)
        yield
        plasmid.shutdown()
        gc.collect()


@pytest.fixture(autouse=True)
def all_comes_back() -> Iterator[None]:
    yield
    for name in placement_group_table():
        remove_placement_group(PlacementGroup(PlacementGroupID.from_hex(name)))
    until(lambda: (available("CPU"), available("GPU")) == (3.0, 2.0), "resources are missing")
    arena().check()


def available(name: str) -> float:
    return plasmid.available_resources().get(name, 0.0)


def inside(group: PlacementGroup | None, index: int = -1, capture: bool | None = None) -> Any:
    return PlacementGroupSchedulingStrategy(group, index, capture)


@plasmid.remote
def where() -> tuple[PlacementGroup | None, list[Any]]:
    return get_current_placement_group(), plasmid.get_gpu_ids()


@plasmid.remote(max_retries=0)
def wait_at(gate: Gate) -> None:
    gate.wait()


def test_a_group_is_reserved_used_and_given_back() -> None:
    group = placement_group([{"CPU": 1, "GPU": 1}, {"CPU": 1}], name="mine")
    assert plasmid.get(group.ready()) == group
    assert group.wait(10)
    assert group.bundle_count == 2
    assert group.bundle_specs == [{"CPU": 1.0, "GPU": 1.0}, {"CPU": 1.0}]
    assert available("CPU") == 1.0
    assert available("GPU") == 1.0
    found, gpus = plasmid.get(where.options(num_gpus=1, scheduling_strategy=inside(group)).remote())
    assert found == group
    assert gpus == [0]
    assert plasmid.get(where.remote())[0] is None
    assert get_current_placement_group() is None
    remove_placement_group(group)
    remove_placement_group(group)
    until(lambda: available("CPU") == 3.0)


def test_handles_travel_and_are_found_by_name() -> None:
    group = placement_group([{"CPU": 1}], name="known")

    @plasmid.remote
    def look(given: PlacementGroup) -> bool:
        same = get_placement_group("known") == given and given.bundle_specs == [{"CPU": 1.0}]
        return same and given.wait(10)

    assert plasmid.get(look.remote(group))
    assert pickle.loads(pickle.dumps(group)) == group
    assert hash(group) == hash(get_placement_group("known"))
    with pytest.raises(ValueError, match="known"):
        placement_group([{"CPU": 1}], name="known")
    remove_placement_group(group)
    with pytest.raises(ValueError, match="known"):
        get_placement_group("known")


def test_the_table_tells_of_each_group() -> None:
    group = placement_group([{"CPU": 1}], strategy="STRICT_PACK", name="shown")
    waiting = placement_group([{"CPU": 3}])
    assert group.wait(10)
    row = placement_group_table(group)
    assert row["state"] == "CREATED"
    assert row["name"] == "shown"
    assert row["strategy"] == "STRICT_PACK"
    assert row["bundles"] == {0: {"CPU": 1.0}}
    assert row["bundles_to_node_id"] == {0: plasmid.nodes()[0]["NodeID"]}
    assert placement_group_table()[waiting.id.hex()]["state"] == "PENDING"
    remove_placement_group(group)
    assert placement_group_table(group)["state"] == "REMOVED"
    assert waiting.wait(10)


def test_a_group_waits_for_what_running_tasks_hold(gate: Gate) -> None:
    holder = wait_at.remote(gate)
    gate.await_arrivals(1)
    group = placement_group([{"CPU": 1}] * 3)
    inner = where.options(scheduling_strategy=inside(group, 2)).remote()
    assert not group.wait(0.1)
    assert plasmid.wait([inner], timeout=0)[0] == []
    gate.open()
    assert plasmid.get(inner)[0] == group
    plasmid.get(holder)


@pytest.mark.parametrize(
    "wanted",
    [
        {"bundles": [{"CPU": 1}] * 2, "strategy": "STRICT_SPREAD"},
        {"bundles": [{"CPU": 4}]},
        {"bundles": [{"CPU": 1, "unheard": 1}]},
        {"bundles": [{"CPU": 1}], "bundle_label_selector": [{"zone": "b"}]},
    ],
)
def test_what_one_machine_cannot_give_stays_pending(wanted: dict[str, Any]) -> None:
    group = placement_group(**wanted)
    ready = group.ready()
    assert plasmid.wait([ready], timeout=0.1)[0] == []
    assert plasmid.get(where.remote())[0] is None, "others go on"
    remove_placement_group(group)
    with pytest.raises(TaskPlacementGroupRemoved):
        plasmid.get(ready)


def test_children_run_in_the_group_if_it_captures_them() -> None:
    group = placement_group([{"CPU": 1}])

    @plasmid.remote
    def parent(strategy: Any = None) -> Any:
        return plasmid.get(where.options(scheduling_strategy=strategy).remote())[0]

    @plasmid.remote
    def grandparent() -> Any:
        return plasmid.get(parent.remote())

    capturing = inside(group, 0, True)
    run = parent.options(scheduling_strategy=capturing)
    assert plasmid.get(run.remote()) == group
    assert plasmid.get(run.remote("DEFAULT")) is None
    assert plasmid.get(run.remote(inside(None))) is None
    assert plasmid.get(parent.options(scheduling_strategy=inside(group)).remote()) is None
    assert plasmid.get(grandparent.options(scheduling_strategy=capturing).remote()) == group
    assert plasmid.get(where.options(placement_group=group).remote())[0] == group


def test_tasks_of_a_removed_group_fail_and_running_ones_are_killed(gate: Gate) -> None:
    group = placement_group([{"CPU": 1, "GPU": 0.5}, {"CPU": 1}])
    strategy = inside(group)
    running = [
        wait_at.options(scheduling_strategy=strategy, max_retries=n).remote(gate) for n in (0, 3)
    ]
    gate.await_arrivals(2)
    queued = [where.options(scheduling_strategy=strategy).remote() for _ in range(50)]
    late = where.options(scheduling_strategy=strategy, num_returns=6).remote()
    remove_placement_group(group)
    for ref in [*running, *queued, *late]:
        with pytest.raises(TaskPlacementGroupRemoved, match=r"(where|wait_at)\(\): its placement"):
            plasmid.get(ref)
    for refused in (lambda: where.options(scheduling_strategy=strategy).remote(), group.ready):
        with pytest.raises(TaskPlacementGroupRemoved):
            refused()
    assert gate.arrived() == 2, "none was run again"


def test_dependants_of_a_task_that_fails_so_fail_so() -> None:
    group = placement_group([{"CPU": 4}])
    first = where.options(scheduling_strategy=inside(group)).remote()

    @plasmid.remote
    def after(value: Any) -> Any:
        return value

    second = after.remote(first)
    remove_placement_group(group)
    with pytest.raises(TaskPlacementGroupRemoved, match="where"):
        plasmid.get(second)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"num_cpus": 2}, "cannot fit into any bundles"),
        ({"num_gpus": 1}, "cannot fit into any bundles"),
        ({"scheduling_strategy": 2}, "bundle index 2 is invalid"),
        ({"scheduling_strategy": -2}, "bundle index -2 is invalid"),
    ],
)
def test_tasks_that_do_not_fit_a_group_are_refused(asked: dict[str, Any], told: str) -> None:
    group = placement_group([{"CPU": 1}, {"CPU": 1}])
    index = asked.pop("scheduling_strategy", -1)
    with pytest.raises(ValueError, match=told):
        where.options(**asked, scheduling_strategy=inside(group, index)).remote()


@pytest.mark.parametrize(
    ("wanted", "kind"),
    [
        ({"bundles": {"CPU": 1}}, ValueError),
        ({"bundles": []}, ValueError),
        ({"bundles": [{}]}, ValueError),
        ({"bundles": [{"CPU": 0}]}, ValueError),
        ({"bundles": [{"CPU": -1}]}, ValueError),
        ({"bundles": [{"CPU": "1"}]}, ValueError),
        ({"bundles": [{"GPU": 1.5}]}, ValueError),
        ({"bundles": [{"CPU": 1}], "strategy": "LOOSE"}, ValueError),
        ({"bundles": [{"CPU": 1}], "lifetime": "long"}, ValueError),
        ({"bundles": [{"CPU": 1}], "name": 3}, TypeError),
        ({"bundles": [{"CPU": 1}], "name": "n" * 64}, ValueError),
        ({"bundles": [{"CPU": 1}], "bundle_label_selector": [{}, {}]}, ValueError),
        ({"bundles": [{"CPU": 1}], "bundle_label_selector": [{"a b": "c"}]}, ValueError),
        ({"bundles": [{"CPU": 1}] * 256}, ValueError),
    ],
)
def test_groups_that_mean_nothing_are_refused(
    wanted: dict[str, Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        placement_group(**wanted)


def test_the_group_that_is_none() -> None:
    none = PlacementGroup.empty()
    assert none.is_empty
    assert plasmid.get(none.ready()) == none
    assert none.bundle_specs == []
    assert plasmid.get(where.options(scheduling_strategy=inside(none)).remote())[0] is None


GUEST = """
    import os, sys, plasmid
    from plasmid.util import placement_group
    plasmid.init(address=sys.argv[1])
    mine = placement_group([{"CPU": 1}], name="mine")
    other = placement_group([{"CPU": 1}], name="other", lifetime="detached")
    assert mine.wait(10) and other.wait(10)
    print("ready", flush=True)
    if sys.argv[2] == "die":
        os.kill(os.getpid(), 9)
    """


@pytest.mark.parametrize("end", ["leave", "die"])
def test_groups_of_a_program_go_with_it_unless_they_are_detached(end: str) -> None:
    address = current.engine.address_info()["address"]
    run_program(GUEST, address, end, status=-9 if end == "die" else 0)
    until(lambda: available("CPU") == 2.0)
    assert [row["name"] for row in placement_group_table().values()] == ["other"]
    remove_placement_group(get_placement_group("other"))


def test_a_group_made_in_a_task_outlives_it() -> None:
    @plasmid.remote
    def make() -> PlacementGroup:
        group = placement_group([{"CPU": 1}])
        assert group.wait(10)
        return group

    group = plasmid.get(make.remote())
    assert plasmid.get(where.options(scheduling_strategy=inside(group)).remote())[0] == group


def test_the_runtime_context_tells_of_group_and_resources() -> None:
    @plasmid.remote(num_gpus=0.5)
    def look() -> tuple[Any, ...]:
        context = plasmid.get_runtime_context()
        found = context.get_placement_group_id(), context.get_assigned_resources()
        captured = context.should_capture_child_tasks_in_placement_group
        return (*found, context.get_accelerator_ids()["GPU"], captured)

    group = placement_group([{"CPU": 1, "GPU": 1}])
    seen = plasmid.get(look.options(scheduling_strategy=inside(group, 0, True)).remote())
    assert seen == (group.id.hex(), {"CPU": 1.0, "GPU": 0.5}, ["0"], True)
    assert plasmid.get(look.remote())[0] is None


def test_cancelled_tasks_of_a_group_give_back_what_they_had(gate: Gate) -> None:
    group = placement_group([{"CPU": 1, "GPU": 1}])
    strategy = inside(group)
    running = wait_at.options(num_gpus=0.5, scheduling_strategy=strategy).remote(gate)
    gate.await_arrivals(1)
    queued = where.options(num_gpus=1, scheduling_strategy=strategy).remote()
    for ref in (queued, running):
        plasmid.cancel(ref, force=ref is running)
        with pytest.raises(plasmid.exceptions.TaskCancelledError):
            plasmid.get(ref)
    last = where.options(num_gpus=1, scheduling_strategy=strategy).remote()
    assert plasmid.get(last) == (group, [0])


@plasmid.remote(max_retries=0)
def brief(seconds: float) -> str:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass
    return "done"


def test_a_removal_beside_tasks_that_end_kills_nobody_else() -> None:
    dice = random.Random(5)
    removed = 0
    for _ in range(60):
        group = placement_group([{"CPU": 1}])
        strategy = inside(group)
        ref = brief.options(scheduling_strategy=strategy).remote(0.0005)
        pause = time.perf_counter() + dice.random() * 0.0015
        while time.perf_counter() < pause:
            pass
        others = [brief.remote(0.0002) for _ in range(6)]  # no retries: a kill would show
        remove_placement_group(group)
        others += [brief.remote(0) for _ in range(3)]
        try:
            assert plasmid.get(ref) == "done"
        except TaskPlacementGroupRemoved:
            removed += 1
        assert plasmid.get(others) == ["done"] * 9
    assert removed
