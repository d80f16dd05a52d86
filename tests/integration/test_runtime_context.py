"""What get_runtime_context() says in programs, tasks and threads; what references say about their
tasks."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support import STORE, run_program, until

import plasmid
from plasmid.exceptions import ObjectLostError, UsageError
from plasmid.util.annotations import RayDeprecationWarning

pytestmark = pytest.mark.usefixtures("session")

CONTEXT = plasmid.get_runtime_context()


@plasmid.remote
def describe() -> dict[str, Any]:
    context = plasmid.get_runtime_context()
    return {
        "job": context.get_job_id(),
        "node": context.get_node_id(),
        "worker": context.get_worker_id(),
        "task": context.get_task_id(),
        "name": context.get_task_name(),
        "function": context.get_task_function_name(),
        "resources": context.get_assigned_resources(),
        "namespace": context.namespace,
        "address": context.gcs_address,
        "session": context.get_session_name(),
        "labels": context.get_node_labels(),
        "pid": os.getpid(),
    }


def test_a_task_is_of_its_program_s_job_node_and_session() -> None:
    there = plasmid.get(describe.remote())
    assert there["job"] == CONTEXT.get_job_id() == plasmid.JobID.from_int(1).hex()
    assert there["node"] == CONTEXT.get_node_id() == plasmid.nodes()[0]["NodeID"]
    assert there["namespace"] == CONTEXT.namespace
    assert there["address"] == CONTEXT.gcs_address
    assert there["session"] == CONTEXT.get_session_name()
    assert there["labels"] == CONTEXT.get_node_labels() == plasmid.nodes()[0]["Labels"]
    assert there["pid"] != os.getpid()


def test_processes_have_ids_of_their_own() -> None:
    @plasmid.remote
    def nested() -> list[dict[str, Any]]:
        mine = plasmid.get(describe.remote())
        return [mine, describe._function()]

    found = [plasmid.get(describe.remote()), *plasmid.get(nested.remote())]
    by_pid = {one["pid"]: one["worker"] for one in found} | {os.getpid(): CONTEXT.get_worker_id()}
    assert len(set(by_pid.values())) == len(by_pid)
    assert all(by_pid[one["pid"]] == one["worker"] for one in found)


def test_a_task_knows_its_name_function_and_resources() -> None:
    default = plasmid.get(describe.remote())
    assert (default["name"], default["resources"]) == ("describe", {"CPU": 1.0})
    assert default["function"] == f"{__name__}.describe"
    other = plasmid.get(describe.options(name="mine", num_cpus=0.25).remote())
    assert (other["name"], other["resources"]) == ("mine", {"CPU": 0.25})
    assert other["function"] == default["function"]
    assert plasmid.get(describe.options(num_cpus=0).remote())["resources"] == {}


def test_the_reference_of_a_result_knows_the_task_for_ever_and_everywhere() -> None:
    @plasmid.remote(num_returns=2)
    def two() -> tuple[str | None, str | None]:
        task = plasmid.get_runtime_context().get_task_id()
        return task, task

    @plasmid.remote
    def ids_of(refs: list[plasmid.ObjectRef]) -> list[str]:
        return [ref.task_id().hex() for ref in refs]

    refs = two.remote()
    early = [ref.task_id().hex() for ref in refs]
    assert plasmid.get(refs) == early == [ref.task_id().hex() for ref in refs]
    assert plasmid.get(ids_of.remote(refs)) == early
    assert early[0] == early[1] != plasmid.get(describe.remote())["task"]
    assert refs[0].job_id().hex() == CONTEXT.get_job_id()


def test_a_large_result_knows_its_task_too() -> None:
    @plasmid.remote
    def large() -> tuple[str | None, bytes]:
        return plasmid.get_runtime_context().get_task_id(), bytes(100_000)

    ref = large.remote()
    assert plasmid.get(ref)[0] == ref.task_id().hex()


def test_what_was_put_is_of_no_task() -> None:
    @plasmid.remote
    def put() -> list[plasmid.ObjectRef]:
        return [plasmid.put("there")]

    (inner,) = plasmid.get(put.remote())
    assert inner.task_id() == plasmid.put("here").task_id() == plasmid.TaskID.nil()


def test_a_task_keeps_its_id_when_it_is_retried(tmp_path: Any) -> None:
    @plasmid.remote(max_retries=1, retry_exceptions=True)
    def fails_first() -> list[str]:
        with open(tmp_path / "ids", "a") as file:
            file.write(f"{plasmid.get_runtime_context().get_task_id()}\n")
        lines = (tmp_path / "ids").read_text().split()
        assert len(lines) == 2
        return lines

    first, second = plasmid.get(fails_first.remote())
    assert first == second


def test_a_task_that_waits_is_itself_again_afterwards() -> None:
    @plasmid.remote
    def outer(depth: int) -> list[str | None]:
        context = plasmid.get_runtime_context()
        before = context.get_task_id()
        below = plasmid.get(outer.remote(depth - 1)) if depth else []
        assert before == context.get_task_id()
        return [before, *below]

    ids = plasmid.get(outer.remote(4))
    assert len(set(ids)) == 5


def test_threads_of_a_task_know_it() -> None:
    @plasmid.remote
    def with_thread() -> bool:
        context, found = plasmid.get_runtime_context(), []
        thread = threading.Thread(target=lambda: found.append(context.get_task_id()))
        thread.start()
        thread.join()
        return found == [context.get_task_id()]

    assert plasmid.get(with_thread.remote())


def test_a_program_runs_no_task() -> None:
    assert CONTEXT.get_task_id() is None
    assert CONTEXT.get_task_name() is None
    assert CONTEXT.get_task_function_name() is None
    assert CONTEXT.get_actor_id() is CONTEXT.get_actor_name() is None
    assert CONTEXT.get_placement_group_id() is None
    with pytest.raises(AssertionError, match="not called in a task"):
        CONTEXT.get_assigned_resources()


def test_what_is_of_actors_is_refused_elsewhere() -> None:
    for name, kind in (
        ("current_actor", RuntimeError),
        ("was_current_actor_reconstructed", UsageError),
    ):
        with pytest.raises(kind, match="not called in an actor"):
            getattr(CONTEXT, name)


def test_environment_and_accelerators_are_there_to_be_asked_for() -> None:
    assert CONTEXT.runtime_env == {}
    assert CONTEXT.get_runtime_env_string() == "{}"
    assert CONTEXT.get_accelerator_ids()["GPU"] == []
    assert os.path.isdir(CONTEXT.get_temp_dir())
    assert CONTEXT.should_capture_child_tasks_in_placement_group is False


def test_old_names_give_id_objects_and_warn() -> None:
    @plasmid.remote
    def old() -> tuple[Any, ...]:
        import warnings

        context = plasmid.get_runtime_context()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return context.task_id, context.actor_id, context.get(), context.get_task_id()

    task_id, actor_id, found, text = plasmid.get(old.remote())
    assert (type(task_id), task_id.hex(), actor_id) == (plasmid.TaskID, text, None)
    assert found["task_id"] == task_id
    with pytest.warns(RayDeprecationWarning, match=r"job_id is deprecated: use get_job_id\(\)"):
        assert CONTEXT.job_id == found["job_id"]
    with pytest.warns(RayDeprecationWarning, match="node_id"):
        assert CONTEXT.node_id == found["node_id"]
    with pytest.warns(RayDeprecationWarning, match="current_placement_group_id"):
        assert CONTEXT.current_placement_group_id.is_nil()
    with pytest.warns(RayDeprecationWarning, match="get_resource_ids"):
        assert CONTEXT.get_resource_ids() == CONTEXT.get_accelerator_ids()
    with pytest.warns(RayDeprecationWarning, match=r"get\(\)"):
        assert CONTEXT.get() == {k: v for k, v in found.items() if k != "task_id"}
    for name in ("task_id", "actor_id"):
        with (
            pytest.warns(RayDeprecationWarning, match=name),
            pytest.raises(AssertionError, match="not called in a task"),
        ):
            getattr(CONTEXT, name)


def test_namespace_and_labels_are_the_program_s(no_session: None) -> None:
    with plasmid.init(
        num_cpus=1, object_store_memory=STORE, namespace="mine", labels={"zone": "a"}
    ) as context:
        there = plasmid.get(describe.remote())
        assert there["namespace"] == CONTEXT.namespace == "mine"
        assert there["labels"]["zone"] == "a"
        assert context.address_info["gcs_address"] == CONTEXT.gcs_address == there["address"]
        assert context.ray_version == plasmid.__version__
    plasmid.init(num_cpus=1, object_store_memory=STORE)
    first = CONTEXT.namespace, CONTEXT.get_session_name(), CONTEXT.get_node_id()
    plasmid.shutdown()
    plasmid.init(num_cpus=1, object_store_memory=STORE)
    second = CONTEXT.namespace, CONTEXT.get_session_name(), CONTEXT.get_node_id()
    assert not set(first) & set(second)


def test_a_program_that_joins_has_the_session_s_namespace_unless_it_has_its_own() -> None:
    program = f"""
        import plasmid, sys
        namespace = sys.argv[1] if sys.argv[1:] else None
        plasmid.init(address={CONTEXT.gcs_address!r}, namespace=namespace)
        context = plasmid.get_runtime_context()
        print(context.namespace, context.get_job_id(), context.get_worker_id())
    """
    namespace, job, worker = run_program(program)[0].split()
    assert namespace == CONTEXT.namespace
    assert job == CONTEXT.get_job_id()
    assert worker != CONTEXT.get_worker_id()
    assert run_program(program, "own")[0].split()[0] == "own"


# -- references -----------------------------------------------------------------------------------


def test_a_reference_comes_back_from_its_id() -> None:
    ref = plasmid.put("value")
    assert plasmid.ObjectRef.from_binary(ref.binary()) == ref
    assert plasmid.get(plasmid.ObjectRef.from_hex(ref.hex())) == "value"
    assert not ref.is_nil()
    with pytest.raises(ObjectLostError):
        plasmid.ObjectRef.from_binary(b"\x01" * 28)
    assert plasmid.ObjectRef.from_binary(b"\xff" * 28).is_nil()
    with pytest.raises(ValueError, match="28 bytes"):
        plasmid.ObjectRef.from_hex("00")


def test_object_ref_annotates() -> None:
    assert plasmid.ObjectRef[int].__args__ == (int,)
    assert isinstance(plasmid.put(1), plasmid.ObjectID)


def test_on_completed_hears_of_values_and_errors() -> None:
    @plasmid.remote
    def fail() -> None:
        raise ValueError("no")

    heard: list[Any] = []
    for ref in (plasmid.put(None), describe.remote(), fail.remote()):
        done = threading.Event()
        ref._on_completed(lambda it, done=done: (heard.append(it), done.set()))
        assert done.wait(60)
    assert heard[0] is None
    assert heard[1]["name"] == "describe"
    assert isinstance(heard[2], ValueError)
    heard.clear()


def test_as_future_is_awaited_in_a_loop() -> None:
    import asyncio

    async def main() -> Any:
        future = describe.remote().as_future()
        assert isinstance(future, asyncio.Future)
        return await future

    assert asyncio.run(main())["name"] == "describe"


def test_a_task_that_was_cancelled_and_goes_on_knows_it(tmp_path: Path) -> None:
    @plasmid.remote
    def task(begun: Path) -> tuple[bool, bool]:
        before = plasmid.get_runtime_context().is_canceled()
        try:
            begun.touch()
            time.sleep(1000)
        except KeyboardInterrupt:
            pass
        return before, plasmid.get_runtime_context().is_canceled()

    begun = tmp_path / "begun"
    ref = task.remote(begun)
    until(begun.exists, "the task runs")
    plasmid.cancel(ref)
    assert plasmid.get(ref) == (False, True)
    assert not plasmid.get_runtime_context().is_canceled()
