"""util.ActorGroup."""

from __future__ import annotations

from typing import Any

import pytest
from support import until

import plasmid
from plasmid.util import ActorGroup
from plasmid.util.state import list_actors

pytestmark = pytest.mark.usefixtures("session")


class Adder:
    def __init__(self, first: int, *, second: int = 0) -> None:
        self.sum = first + second

    def add(self, number: int) -> int:
        return self.sum + number


class Described(Adder):
    def get_actor_metadata(self) -> str:
        return f"sum {self.sum}"


def group_of(cls: type = Adder, **options: Any) -> ActorGroup:
    return ActorGroup(cls, num_cpus_per_actor=0, init_args=(1,), **options)


def test_a_call_is_one_of_each() -> None:
    group = group_of(num_actors=3, init_kwargs={"second": 2})
    assert len(group) == 3
    assert plasmid.get(group.add.remote(4)) == [7, 7, 7]
    assert plasmid.get(group[1].actor.add.remote(5)) == 8
    assert group.actor_metadata == [None] * 3
    config = group.actor_config
    assert (config.num_cpus, config.init_args, config.init_kwargs) == (0, (1,), {"second": 2})
    with pytest.raises(TypeError, match=r"group\.add\.remote"):
        group.add(1)


def test_metadata_is_what_the_class_says() -> None:
    group = group_of(Described, num_actors=2)
    assert group.actor_metadata == ["sum 1", "sum 1"]
    assert group[0].metadata == "sum 1"


def test_actors_are_added_and_removed() -> None:
    group = group_of(num_actors=2)
    group.add_actors(2)
    assert plasmid.get(group.add.remote(0)) == [1] * 4
    group.remove_actors([0, 3])
    assert plasmid.get(group.add.remote(0)) == [1] * 2
    until(lambda: len(list_actors()) == 2, "two of four live")


@pytest.mark.parametrize("patience", [0, 60])
def test_shutdown_and_start(patience: float) -> None:
    group = group_of(num_actors=2)
    with pytest.raises(RuntimeError, match="started already"):
        group.start()
    group.shutdown(patience_s=patience)
    until(lambda: list_actors() == [], "they live")
    with pytest.raises(RuntimeError, match="start it again"):
        group.add.remote(1)
    group.start()
    assert plasmid.get(group.add.remote(1)) == [2, 2]


@pytest.mark.parametrize(
    "bad", [{"num_actors": 0}, {"num_cpus_per_actor": -1}, {"num_gpus_per_actor": -1}]
)
def test_numbers_that_make_no_sense_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        ActorGroup(Adder, **bad)
