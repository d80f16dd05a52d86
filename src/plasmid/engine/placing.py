"""What a task asks for, as the core counts it; and whether it can ever have it.

TaskOptions ─► Placing.place() ─► Placed: CPU units, other needs, placement group, bundle
"""

from __future__ import annotations

import math
import pickle
from typing import TYPE_CHECKING, Any

from plasmid import ids
from plasmid._core import core
from plasmid.engine.running import holder
from plasmid.exceptions import ObjectExistsError, TaskUnschedulableError
from plasmid.strategies import (
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    PlacementGroupSchedulingStrategy,
    fits_selector,
    matches,
)

if TYPE_CHECKING:
    from plasmid.engine.base import TaskOptions

MOST_PLAIN = 1000
"""So many answers for tasks that ask for CPUs only are kept."""

STRICT_SPREAD = 3
"""The number of that strategy in `groups.STRATEGIES`."""


class Placed:
    """Needs in the core's units: `more` beside CPU; `group` 0: of the machine."""

    __slots__ = ("bundle", "captures", "cpu", "group", "more")

    def __init__(self, cpu: int) -> None:
        self.cpu = cpu
        self.more: tuple[tuple[int, int], ...] = ()
        self.group = 0
        self.bundle = -1
        self.captures = False


class Placing:
    """The session's resources by name, and where its tasks may run.

    Processes and threads: nothing in it changes but caches.
    """

    def __init__(self, arena: core.Arena) -> None:
        self._arena = arena
        self._node_id = ids.of_node(arena.session).hex()
        self._totals = {name: total for name, (total, _) in arena.resources().items()}
        self._kinds = {name: kind for kind, name in enumerate(self._totals)}
        self._most_cpu = self._totals["CPU"]
        self._labels: dict[str, str] | None = None
        self._plain: dict[float, Placed] = {}

    @property
    def labels(self) -> dict[str, str]:
        """Of this node; read when they are first asked for."""
        if self._labels is None:
            given = pickle.loads(self._arena.boot())["labels"]
            self._labels = {"ray.io/node-id": self._node_id, **given}
        return self._labels

    def place(self, options: TaskOptions) -> Placed:
        """TaskUnschedulableError if the session will never have what it asks for, ValueError if it
        does not fit the placement group that it names."""
        if options.is_plain and not self._captor():
            return self._plain.get(options.num_cpus) or self._place_plain(options)
        placed = Placed(round(options.num_cpus * core.UNITS))
        asked = {"CPU": options.num_cpus, **options.resources}
        asked = {name: amount for name, amount in asked.items() if amount}
        self._set_group(placed, options, asked)
        self._check_node(options)
        if not placed.group:
            self._check_totals(options, asked)
        placed.more = tuple(
            (self._kinds[name], units(name, amount))
            for name, amount in asked.items()
            if name != "CPU"
        )
        return placed

    def _place_plain(self, options: TaskOptions) -> Placed:
        placed = Placed(round(options.num_cpus * core.UNITS))
        if placed.cpu > self._most_cpu:
            raise self._too_much(options, {"CPU": options.num_cpus})
        if len(self._plain) < MOST_PLAIN:
            self._plain[options.num_cpus] = placed
        return placed

    def _captor(self) -> Any:
        task = holder()
        return task if task is not None and task.captures else None

    def _set_group(self, placed: Placed, options: TaskOptions, asked: dict[str, float]) -> None:
        strategy = options.strategy
        if strategy is None:
            captor = self._captor()
            if captor is None:
                return
            placed.group, placed.captures = captor.core.group, True
        elif isinstance(strategy, PlacementGroupSchedulingStrategy):
            handle = strategy.placement_group
            if handle is None or handle.is_empty:
                return
            placed.group = ids.number_of_group(self._arena.session, handle.id)
            placed.bundle = strategy.placement_group_bundle_index
            placed.captures = bool(strategy.placement_group_capture_child_tasks)
        else:
            return
        # Raises if the group is gone; what its handle remembers would not.
        bundles = self.bundles(placed.group)
        if not -1 <= placed.bundle < len(bundles):
            raise ValueError(
                f"{options.name}(): placement group bundle index {placed.bundle} is invalid: "
                f"the group has {len(bundles)} bundles"
            )
        able = bundles if placed.bundle < 0 else [bundles[placed.bundle]]
        if not any(_fits(asked, bundle) for bundle in able):
            raise ValueError(
                f"Cannot schedule {options.name}() with the placement group because the resource "
                f"request {asked} cannot fit into any bundles of it, {able}"
            )

    def _check_node(self, options: TaskOptions) -> None:
        strategy = options.strategy
        if isinstance(strategy, NodeAffinitySchedulingStrategy):
            if strategy.node_id != self._node_id and not strategy.soft:
                raise TaskUnschedulableError(
                    f"{options.name}() asks for node {strategy.node_id}, but the session has only "
                    f"{self._node_id}; soft=True lets it run there"
                )
        elif isinstance(strategy, NodeLabelSchedulingStrategy) and not matches(
            strategy, self.labels
        ):
            raise TaskUnschedulableError(
                f"{options.name}() asks for a node with other labels than {self.labels}"
            )
        if options.selectors and not any(
            fits_selector(selector, self.labels) for selector in options.selectors
        ):
            raise TaskUnschedulableError(
                f"{options.name}() asks for a node with labels {options.selectors[0]}, but this "
                f"one has {self.labels}"
            )

    def _check_totals(self, options: TaskOptions, asked: dict[str, float]) -> None:
        missing = {
            name: amount
            for name, amount in asked.items()
            if units(name, amount) > self._totals.get(name, 0)
        }
        if missing:
            raise self._too_much(options, missing)

    def _too_much(self, options: TaskOptions, missing: dict[str, float]) -> Exception:
        there = {name: amount(name, self._totals.get(name, 0)) for name in missing}
        has = _number(*there.values()) if len(there) == 1 else _listed(there)
        return TaskUnschedulableError(
            f"{options.name}() asks for {_listed(missing)}, but the session has {has}"
        )

    # ---- placement groups

    def bundles(self, serial: int) -> list[dict[str, float]]:
        """What a group's bundles have. TaskPlacementGroupRemoved."""
        return [self.by_name(bundle) for bundle in core.group_bundles(self._arena, serial)]

    def by_name(self, needs: dict[int, int]) -> dict[str, float]:
        """Amounts by the names of resources, of what the core counts by kinds."""
        names = list(self._kinds)
        return {names[kind]: amount(names[kind], count) for kind, count in needs.items()}

    def create_group(
        self,
        bundles: list[dict[str, float]],
        strategy: int,
        name: str,
        selectors: list[dict[str, str]],
        mine: bool,
    ) -> int:
        if len(name.encode()) > core.GROUP_NAME_BYTES:
            raise ValueError(
                f"a placement group's name may have {core.GROUP_NAME_BYTES} bytes, not {name!r}"
            )
        if len(bundles) > core.BUNDLES:
            raise ValueError(f"a placement group may have {core.BUNDLES} bundles at most")
        counted = [self._bundle(bundle) for bundle in bundles]
        unknown = any(key not in self._kinds for bundle in bundles for key in bundle)
        elsewhere = any(not fits_selector(selector, self.labels) for selector in selectors)
        spread = strategy == STRICT_SPREAD and len(bundles) > 1
        never = unknown or elsewhere or spread
        try:
            return core.create_group(self._arena, counted, name.encode(), strategy, never, mine)
        except ObjectExistsError:
            raise ValueError(f"there is a placement group named {name!r} already") from None

    def _bundle(self, bundle: dict[str, float]) -> dict[int, int]:
        """Resources that the session does not have are left out: the group stays pending."""
        gpus = bundle.get("GPU", 0)
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"a bundle has a part of one GPU or whole ones, not {gpus:g}")
        return {
            self._kinds[name]: units(name, count)
            for name, count in bundle.items()
            if count and name in self._kinds
        }


_OPTIONS = {"CPU": "num_cpus", "GPU": "num_gpus"}


def _listed(amounts: dict[str, float]) -> str:
    return ", ".join(f"{_OPTIONS.get(name, name)}={_number(n)}" for name, n in amounts.items())


def _number(n: float) -> str:
    return str(int(n)) if n == int(n) else f"{n:g}"


def units(name: str, count: float) -> int:
    """As the core counts it: bytes of memory, 1/10000 of anything else."""
    return math.ceil(count) if name == "memory" else round(count * core.UNITS)


def amount(name: str, count: int) -> float:
    return float(count) if name == "memory" else count / core.UNITS


def _fits(asked: dict[str, float], bundle: dict[str, float]) -> bool:
    return all(units(name, n) <= units(name, bundle.get(name, 0)) for name, n in asked.items())
