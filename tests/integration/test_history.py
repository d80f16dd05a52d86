"""What tasks do and did: timeline(), util.state, `plasmid tasks` and `plasmid timeline`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import Gate, until

import plasmid
from plasmid.engine import current
from plasmid.util import state

pytestmark = pytest.mark.usefixtures("session")


def tasks(name: str) -> list[dict[str, Any]]:
    return [each for each in current.engine.tasks() if each["name"] == name]


def command(*words: str) -> str:
    address = str(current.engine.address_info()["address"])
    done = subprocess.run(
        [sys.executable, "-m", "plasmid", *words, "--address", address],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_a_task_is_told_of_from_its_submission_to_its_end(gate: Gate) -> None:
    @plasmid.remote
    def told(x: int) -> int:
        gate.wait()
        return x

    before = time.time()
    ref = told.remote(1)
    gate.await_arrivals(1)
    [live] = tasks("told")
    assert live["outcome"] == "running"
    assert live["state"] == "RUNNING"
    assert live["ended"] is None
    gate.open()
    plasmid.get(ref)
    [ended] = tasks("told")
    assert ended["outcome"] == "finished"
    assert ended["task_id"] == live["task_id"] == ref.task_id().hex()
    assert ended["worker_pid"] == live["worker_pid"]
    times = [ended[key] for key in ("submitted", "started", "began", "returned", "ended")]
    assert times == sorted(times)
    assert before - 1 < times[0] <= times[-1] < time.time() + 1


def test_what_waits_names_who_makes_what_it_waits_for(gate: Gate) -> None:
    @plasmid.remote
    def producer() -> int:
        gate.wait()
        return 1

    @plasmid.remote
    def consumer(*values: int) -> int:
        return sum(values)

    first = producer.remote()
    total = consumer.remote(first, plasmid.put(1), first)
    gate.await_arrivals(1)
    [waits] = tasks("consumer")
    assert waits["outcome"] == "waiting"
    assert waits["state"] == "PENDING_ARGS_AVAIL"
    assert waits["waiting"] == 2
    assert [each["name"] for each in waits["waits_for"]] == ["producer", "producer"]
    assert waits["waits_for"][0]["object_id"] == first.hex()
    assert waits["waits_for"][0]["task_id"] == first.task_id().hex()
    text = command("tasks")
    assert "waits for producer(), producer()" in text
    gate.open()
    assert plasmid.get(total) == 3


def test_failures_say_what_was_raised_and_each_attempt_is_told_of(tmp_path: Path) -> None:
    @plasmid.remote(max_retries=1, retry_exceptions=True)
    def fails() -> None:
        raise ValueError("wanted\nmore lines")

    @plasmid.remote(max_retries=0)
    def dies() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ValueError, match="wanted"):
        plasmid.get(fails.remote())
    with pytest.raises(plasmid.exceptions.WorkerCrashedError):
        plasmid.get(dies.remote())
    first, second = tasks("fails")
    assert [first["outcome"], second["outcome"]] == ["retried", "failed"]
    assert [first["attempt_number"], second["attempt_number"]] == [0, 1]
    assert first["error"] == second["error"] == "ValueError: wanted"
    assert second["error_type"] == "TASK_EXECUTION_EXCEPTION"
    [dead] = tasks("dies")
    assert dead["outcome"] == "crashed"
    assert dead["state"] == "FAILED"
    assert dead["error_type"] == "WORKER_DIED"


def test_a_nested_task_knows_its_parent_and_a_waiting_one_is_blocked(gate: Gate) -> None:
    @plasmid.remote
    def inner() -> None:
        gate.wait()

    @plasmid.remote
    def outer() -> None:
        plasmid.get(inner.remote(), timeout=1000)

    ref = outer.remote()
    gate.await_arrivals(1)
    until(lambda: tasks("outer")[0]["outcome"] == "blocked", "outer waits")
    assert tasks("outer")[0]["state"] == "RUNNING_IN_RAY_GET"
    assert tasks("inner")[0]["parent_task_id"] == tasks("outer")[0]["task_id"]
    gate.open()
    plasmid.get(ref)


def test_a_task_without_events_is_told_of_only_while_it_is_there(gate: Gate) -> None:
    @plasmid.remote(enable_task_events=False)
    def quiet() -> None:
        gate.wait()

    ref = quiet.remote()
    gate.await_arrivals(1)
    assert len(tasks("quiet")) == 1
    gate.open()
    plasmid.get(ref)
    assert tasks("quiet") == []


def test_the_timeline_has_the_steps_of_each_task(tmp_path: Path) -> None:
    @plasmid.remote
    def traced(value: Any) -> bytes:
        return b"x" * 100_000

    plasmid.get(traced.remote(plasmid.put(b"y" * 100_000)))
    events = [each for each in plasmid.timeline() or () if each["ph"] == "X"]
    whole = next(each for each in events if each["name"] == "task::traced")
    assert whole["args"]["outcome"] == "finished"
    inside = [
        each
        for each in events
        if each["tid"] == whole["tid"]
        and whole["ts"] <= each["ts"]
        and each["ts"] + each["dur"] <= whole["ts"] + whole["dur"] + 1
    ]
    names = [each["name"] for each in inside]
    for step in ("deserialize_arguments", "execute", "store_outputs"):
        assert f"task:{step}" in names
    assert plasmid.timeline(str(tmp_path / "trace.json")) is None
    written = json.loads((tmp_path / "trace.json").read_text())
    assert any(each["name"] == "task::traced" for each in written)
    command("timeline", str(tmp_path / "other.json"))
    assert "task::traced" in (tmp_path / "other.json").read_text()


def test_state_lists_filter_and_limit(gate: Gate) -> None:
    @plasmid.remote
    def listed() -> None:
        gate.wait()

    refs = [listed.remote() for _ in range(3)]
    gate.await_arrivals(1)
    found = state.list_tasks(filters=[("name", "=", "listed")])
    assert len(found) == 3
    assert {task.state for task in found} <= {"RUNNING", "PENDING_NODE_ASSIGNMENT"}
    assert found[0]["name"] == found[0].func_or_class_name == "listed"
    running = [task for task in found if task.state == "RUNNING"]
    workers = {worker.worker_id: worker.pid for worker in state.list_workers()}
    assert all(workers[task.worker_id] == task.worker_pid for task in running)
    assert len(state.list_tasks(filters=[("name", "=", "listed")], limit=2)) == 2
    others = state.list_tasks(filters=[("name", "!=", "listed")], limit=100_000)
    assert all(task.name != "listed" for task in others)
    one = state.get_task(refs[0], 30)
    assert one.task_id == refs[0].task_id().hex()
    counts = state.summarize_tasks()["cluster"]["summary"]["listed"]["state_counts"]
    assert sum(counts.values()) == 3
    gate.open()
    plasmid.get(refs)
    assert state.get_task(refs[0].task_id().hex()).state == "FINISHED"


def test_state_tells_of_objects_processes_and_the_node() -> None:
    ref = plasmid.put(b"z" * 50_000)
    [found] = state.get_objects(ref.hex())
    assert found.object_size > 50_000
    assert found.state == "sealed"
    assert state.summarize_objects()["cluster"]["total_objects"] >= 1
    [node] = state.list_nodes()
    assert node.state == "ALIVE"
    assert state.get_node(node.node_id) is not None
    [job] = state.list_jobs()
    assert job.driver_info["pid"] == str(os.getpid())
    assert state.get_job(job.job_id) is not None
    kinds = {each.worker_type for each in state.list_workers()}
    assert {"DRIVER", "KEEPER"} <= kinds
    assert state.list_actors() == []


def test_actors_and_their_calls_are_told_of(gate: Gate) -> None:
    @plasmid.remote
    class Told:
        def work(self) -> None:
            gate.wait()

        def fail(self) -> None:
            raise KeyError("no")

    told = Told.options(name="the one", lifetime="detached").remote()  # type: ignore[attr-defined]
    refs = [told.work.remote(), told.fail.remote()]
    gate.await_arrivals(1)
    [listed] = json.loads(command("actors", "--json"))
    assert listed["actor_id"] == told._actor_id.hex()
    assert (listed["state"], listed["calls"], listed["is_detached"]) == ("ALIVE", 2, True)
    shown = command("actors")
    assert "1 alive" in shown
    assert "the one (detached)" in shown
    gate.open()
    plasmid.wait(refs, num_returns=2)
    calls = state.list_tasks(filters=[("type", "=", "ACTOR_TASK")], detail=True)
    assert {each.actor_id for each in calls} == {listed["actor_id"]}
    assert [(each.name, each.state) for each in calls] == [
        ("Told.work", "FINISHED"),
        ("Told.fail", "FAILED"),
    ]
    [made] = state.list_tasks(filters=[("type", "=", "ACTOR_CREATION_TASK")])
    assert (made.actor_id, made.worker_pid) == (listed["actor_id"], listed["pid"])
    totals = state.summarize_tasks()["cluster"]
    assert (totals["total_actor_tasks"], totals["total_actor_scheduled"]) == (2, 1)
    spans = [each for each in plasmid.timeline() or () if each.get("args", {}).get("actor_id")]
    assert {each["args"]["actor_id"] for each in spans} == {listed["actor_id"]}
    plasmid.kill(told)
    until(lambda: command("actors").startswith("no actors"), "it has ended")


@pytest.mark.parametrize("bad", [("name",), ("name", ">", 1), 7, ("no such key", "=", 1)])
def test_filters_that_cannot_be_are_refused(bad: Any) -> None:
    plasmid.get(plasmid.remote(lambda: 1).remote())
    with pytest.raises(ValueError, match="filter"):
        state.list_tasks(filters=[bad])


def test_only_the_latest_attempts_are_remembered() -> None:
    nothing = plasmid.remote(lambda: None)
    for _ in range(17):
        plasmid.get([nothing.remote() for _ in range(1000)])
    ended = [each for each in current.engine.tasks() if each["ended"]]
    assert len(ended) == 16_384
    numbers = [each["number"] for each in ended]
    assert numbers == sorted(numbers)
