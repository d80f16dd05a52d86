"""`ActorGroup`: some actors of one class, called together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from plasmid import actor, api
from plasmid.remote import remote

__all__ = ["ActorConfig", "ActorGroup", "ActorGroupMethod", "ActorMetadata", "ActorWrapper"]

ActorMetadata = TypeVar("ActorMetadata")
"""For annotations: what an actor says of itself."""


@dataclass
class ActorWrapper:
    """An actor, and what its `get_actor_metadata()` returned; None if its class has no such
    method."""

    actor: Any
    metadata: Any


@dataclass
class ActorConfig:
    """What each actor of a group is made with."""

    num_cpus: float
    num_gpus: float
    resources: dict[str, float] | None
    init_args: tuple[Any, ...]
    init_kwargs: dict[str, Any]


class ActorGroup:
    """`num_actors` actors of a class, made with the same arguments.

        group = ActorGroup(Worker, num_actors=2)
        plasmid.get(group.work.remote(1))        # of each: a list of two

    `group[i].actor` is one of them. ValueError for numbers that make no sense.

    Processes and threads: belongs to the thread that uses it.
    """

    def __init__(
        self,
        actor_cls: type,
        num_actors: int = 1,
        num_cpus_per_actor: float = 1,
        num_gpus_per_actor: float = 0,
        resources_per_actor: dict[str, float] | None = None,
        init_args: tuple[Any, ...] | None = None,
        init_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if num_actors <= 0:
            raise ValueError(f"ActorGroup: num_actors must be positive, not {num_actors}")
        if num_cpus_per_actor < 0 or num_gpus_per_actor < 0:
            raise ValueError(
                "ActorGroup: num_cpus_per_actor and num_gpus_per_actor must not be negative: "
                f"{num_cpus_per_actor}, {num_gpus_per_actor}"
            )
        self.actors: list[ActorWrapper] = []
        self.num_actors = num_actors
        self.actor_config = ActorConfig(
            num_cpus_per_actor,
            num_gpus_per_actor,
            resources_per_actor,
            tuple(init_args or ()),
            dict(init_kwargs or {}),
        )
        self._class = remote(
            num_cpus=num_cpus_per_actor,
            num_gpus=num_gpus_per_actor,
            resources=resources_per_actor,
        )(actor_cls)
        self.start()

    def __getattr__(self, name: str) -> ActorGroupMethod:
        actors = self.__dict__.get("actors")
        if actors is None:
            raise AttributeError(name)
        if not actors:
            raise RuntimeError("This ActorGroup has been shutdown. Please start it again.")
        return ActorGroupMethod(self, name)

    def __len__(self) -> int:
        return len(self.actors)

    def __getitem__(self, index: int) -> ActorWrapper:
        return self.actors[index]

    @property
    def actor_metadata(self) -> list[Any]:
        return [each.metadata for each in self.actors]

    def start(self) -> None:
        """Make the actors again, after shutdown(). RuntimeError if they are there."""
        if self.actors:
            raise RuntimeError("the actors have been started already: call shutdown() first")
        self.add_actors(self.num_actors)

    def shutdown(self, patience_s: float = 5) -> None:
        """End all actors. Calls that run have `patience_s` seconds to end, and this blocks as
        long."""
        ended: list[Any] = []
        if patience_s > 0 and self.actors:
            ends = [each.actor.__ray_terminate__.remote() for each in self.actors]
            ended, _ = api.wait(ends, num_returns=len(ends), timeout=patience_s)
        if len(ended) < len(self.actors):
            for each in self.actors:
                actor.kill(each.actor)
        self.actors = []

    def remove_actors(self, actor_indexes: Iterable[int]) -> None:
        """Take these out: they end if nobody else has them."""
        gone = set(actor_indexes)
        self.actors = [each for i, each in enumerate(self.actors) if i not in gone]

    def add_actors(self, num_actors: int) -> None:
        """Make so many more. Blocks until they have said their metadata, if they have any."""
        config = self.actor_config
        made = [
            self._class.remote(*config.init_args, **config.init_kwargs) for _ in range(num_actors)
        ]
        metadata: list[Any] = [None] * num_actors
        if made and hasattr(made[0], "get_actor_metadata"):
            metadata = api.get([each.get_actor_metadata.remote() for each in made])
        self.actors += map(ActorWrapper, made, metadata)


class ActorGroupMethod:
    """A method of all actors of a group."""

    def __init__(self, group: ActorGroup, name: str) -> None:
        self._group = group
        self._name = name

    def remote(self, *args: Any, **kwargs: Any) -> list[Any]:
        """Call it on each: the references, in their order."""
        actors = self._group.actors
        return [getattr(each.actor, self._name).remote(*args, **kwargs) for each in actors]

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            f"ActorGroup methods cannot be called directly: instead of group.{self._name}(), use "
            f"group.{self._name}.remote()"
        )
