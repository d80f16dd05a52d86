"""Ids: sizes, values, what they contain."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

import plasmid
from plasmid import ids

SIZES = {
    "JobID": 4,
    "ActorID": 16,
    "PlacementGroupID": 18,
    "TaskID": 24,
    "UniqueID": 28,
    "NodeID": 28,
    "WorkerID": 28,
    "FunctionID": 28,
    "ActorClassID": 28,
    "ClusterID": 28,
}
ALL = [pytest.param(getattr(plasmid, name), size, id=name) for name, size in SIZES.items()]


@pytest.mark.parametrize(("kind", "size"), ALL)
def test_an_id_is_its_bytes(kind: Any, size: int) -> None:
    raw = bytes(range(size))
    made = kind(raw)
    assert (made.binary(), made.hex(), bytes(made)) == (raw, raw.hex(), raw)
    assert kind.size() == made.size() == size
    assert kind.from_hex(raw.hex()) == kind.from_hex(raw.hex().encode()) == kind.from_binary(raw)
    assert repr(made) == f"{kind.__name__}({raw.hex()})"
    assert pickle.loads(pickle.dumps(made)) == made
    assert {made: 1}[kind(raw)] == 1
    assert made != kind(bytes(size))
    assert made != raw
    assert not made.is_nil()


@pytest.mark.parametrize(("kind", "size"), ALL)
def test_the_nil_id_is_all_ones(kind: Any, size: int) -> None:
    assert kind.nil().is_nil()
    assert kind.nil().binary() == b"\xff" * size
    assert kind.nil() == kind.nil()


@pytest.mark.parametrize(("kind", "size"), ALL)
def test_what_is_no_id_is_refused(kind: Any, size: int) -> None:
    with pytest.raises(ValueError, match=f"expected {size} bytes, got 3"):
        kind(b"abc")
    with pytest.raises(TypeError, match="expected bytes, got str"):
        kind("ab")
    for text in ("00", "no digits"):
        with pytest.raises(ValueError, match=r"bytes|hexadecimal"):
            kind.from_hex(text)


def test_ids_of_different_kinds_differ() -> None:
    raw = bytes(28)
    assert plasmid.NodeID(raw) != plasmid.WorkerID(raw)
    assert plasmid.NodeID(raw) != plasmid.UniqueID(raw)
    assert isinstance(plasmid.NodeID(raw), plasmid.UniqueID)


@pytest.mark.parametrize("name", ["UniqueID", "NodeID", "WorkerID", "ActorID", "PlacementGroupID"])
def test_random_ids_differ(name: str) -> None:
    kind = getattr(plasmid, name)
    assert type(kind.from_random()) is kind
    assert len({kind.from_random() for _ in range(100)}) == 100


def test_a_job_is_a_number() -> None:
    job = plasmid.JobID.from_int(258)
    assert job.hex() == "02010000"
    assert job.int() == 258


def test_ids_contain_those_they_belong_to() -> None:
    job = plasmid.JobID.from_int(7)
    actor = plasmid.ActorID.of(job)
    assert actor.job_id() == plasmid.PlacementGroupID.of(job).job_id() == job
    task = plasmid.TaskID.for_actor_creation_task(actor)
    assert (task.actor_id(), task.job_id()) == (actor, job)
    fake = plasmid.TaskID.for_fake_task(job)
    assert fake.job_id() == job
    assert fake != plasmid.TaskID.for_fake_task(job)
    driver = plasmid.TaskID.for_driver_task(job)
    assert driver.actor_id() == fake.actor_id()
    assert not driver.is_nil()
    with pytest.raises(TypeError, match="expected a JobID"):
        plasmid.ActorID.of(actor)  # type: ignore[arg-type]


@pytest.mark.parametrize("serial", [1, 2, 2**40, 2**64 - 1])
def test_a_task_s_id_is_made_of_its_number_and_back(serial: int) -> None:
    session = bytes(range(16))
    task = ids.of_task(session, serial)
    assert ids.serial_of(session, task) == serial
    assert task.job_id() == ids.JOB
    assert task != ids.of_task(bytes(16), serial)
    assert task.actor_id().binary()[:12] == b"\xff" * 12


def test_the_task_of_number_0_is_nil() -> None:
    assert ids.of_task(bytes(16), 0).is_nil()
    assert ids.serial_of(bytes(16), plasmid.TaskID.nil()) == 0


def test_workers_and_sessions_have_ids_of_their_own() -> None:
    session, other = bytes(16), bytes(range(16))
    found = {ids.of_worker(session, 1, 1), ids.of_worker(session, 1, 2), ids.of_worker(other, 1, 1)}
    assert len(found) == 3
    assert ids.of_node(session) == ids.of_node(session) != ids.of_node(other)
