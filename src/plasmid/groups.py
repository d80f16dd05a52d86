"""Placement groups: bundles of resources, reserved together for the tasks that name them.

    placement_group() ─► engine.create_group ─► the core, which reserves it when all of it is free
    PlacementGroup    ─► a handle: a number and the session's mark; any process may have one

A task names a group by `PlacementGroupSchedulingStrategy`.
"""

from __future__ import annotations

from plasmid import ids
from plasmid.engine import current
from plasmid.ids import PlacementGroupID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from plasmid._core.core import ObjectRef

__all__ = [
    "PlacementGroup",
    "get_current_placement_group",
    "get_placement_group",
    "placement_group",
    "placement_group_table",
    "remove_placement_group",
]

STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


class PlacementGroup:
    """A handle of a placement group. Equal handles are of the same group.

    Processes and threads: it can be passed to tasks, and used by any thread.
    """

    def __init__(
        self, id: PlacementGroupID, bundle_cache: list[dict[str, float]] | None = None
    ) -> None:
        self.id = id
        self.bundle_cache = bundle_cache

    @staticmethod
    def empty() -> PlacementGroup:
        """The group that is none."""
        return PlacementGroup(PlacementGroupID.nil())

    @property
    def is_empty(self) -> bool:
        return self.id.is_nil()

    def ready(self) -> ObjectRef:
        """A reference that gets a value, this handle, when the group has been reserved.

        TaskPlacementGroupRemoved, here or in `get`, if it was removed.
        """
        engine = current.get_engine()
        if self.is_empty:
            return engine.put(self)
        return _ready_task().options(**_within(self)).remote(self)  # type: ignore[no-any-return]

    def wait(self, timeout_seconds: float = 30) -> bool:
        """Whether the group has been reserved, or is within this time."""
        engine = current.get_engine()
        timeout = None if timeout_seconds == -1 else float(timeout_seconds)
        return bool(engine.wait([self.ready()], 1, timeout)[0])

    @property
    def bundle_specs(self) -> list[dict[str, float]]:
        """What each bundle has: its resources by name."""
        if not self.bundle_cache:
            self.bundle_cache = [] if self.is_empty else _bundles(self.id)
        return self.bundle_cache

    @property
    def bundle_count(self) -> int:
        return len(self.bundle_specs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlacementGroup) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"PlacementGroup({self.id.hex()})"


def placement_group(
    bundles: list[dict[str, float]],
    strategy: str | None = None,
    name: str = "",
    lifetime: str | None = None,
    _soft_target_node_id: str | None = None,
    bundle_label_selector: list[dict[str, str]] | None = None,
    topology_strategy: dict[str, str] | None = None,
) -> PlacementGroup:
    """Reserve bundles of resources, each a dict like {"CPU": 1, "GPU": 0.5, "memory": 10**9}.

    Returns at once; `ready()` and `wait()` tell when all of them are reserved, which they are
    together. STRICT_SPREAD asks for a node for each bundle: with more than one it stays pending, as
    what asks for more than the session has. The other strategies mean the same on one machine.

    name      for `get_placement_group`
    lifetime  None: it goes with the program that made it (of a task: with the session);
              "detached": it stays until `remove_placement_group` or the session's end

    ValueError for bundles that are none, a name that is taken, and unknown strategies.
    """
    from plasmid.strategies import check_selector

    mode = _mode(strategy, topology_strategy)
    if _soft_target_node_id and mode != "STRICT_PACK":
        raise ValueError(f"_soft_target_node_id works with STRICT_PACK only, not with {mode}")
    _check_bundles(bundles)
    selectors = bundle_label_selector or []
    if not isinstance(selectors, list) or not all(isinstance(each, dict) for each in selectors):
        raise ValueError("bundle_label_selector must be a list of dicts of strings")
    if selectors and len(selectors) != len(bundles):
        raise ValueError(
            f"bundle_label_selector must be as long as bundles, {len(bundles)}, not "
            f"{len(selectors)}"
        )
    for selector in selectors:
        wrong = check_selector(selector)
        if wrong:
            raise ValueError(f"bundle_label_selector: {wrong}")
    if lifetime not in (None, "detached"):
        raise ValueError(f"lifetime must be None or 'detached', not {lifetime!r}")
    if not isinstance(name, str):
        raise TypeError(f"a placement group's name must be a string, not {name!r}")
    specs = [{key: float(amount) for key, amount in bundle.items()} for bundle in bundles]
    engine = current.get_engine()
    serial = engine.create_group(
        specs,
        strategy=STRATEGIES.index(mode),
        name=name,
        detached=lifetime == "detached",
        selectors=selectors,
    )
    return PlacementGroup(ids.of_group(engine.session_mark, serial), specs)


def remove_placement_group(placement_group: PlacementGroup) -> None:
    """Give a group's resources back. What is queued in it fails with TaskPlacementGroupRemoved, and
    what runs in it is killed and fails so. Does not wait for that. Removed twice is no error.

    Submitting to it later, and `ready()`, raise that at once; in Ray it comes with `get`.
    """
    _check_handle("remove_placement_group", placement_group)
    engine = current.get_engine()
    engine.remove_group(ids.number_of_group(engine.session_mark, placement_group.id))


def get_placement_group(placement_group_name: str) -> PlacementGroup:
    """The group of that name. ValueError if there is none."""
    if not placement_group_name:
        raise ValueError("get_placement_group: a name must not be empty")
    engine = current.get_engine()
    for group in engine.groups():
        if group.name == placement_group_name and group.state != "removed":
            return PlacementGroup(ids.of_group(engine.session_mark, group.serial))
    raise ValueError(f"Failed to look up placement group with name: {placement_group_name}")


def placement_group_table(placement_group: PlacementGroup | None = None) -> dict[str, Any]:
    """What is known of a group, or by hex id of all: "name", "state" ("PENDING", "CREATED",
    "REMOVED"), "strategy", "bundles", ... Of groups that are gone only who asks for one hears."""
    engine = current.get_engine()
    rows = {}
    for group in engine.groups():
        handle = PlacementGroup(ids.of_group(engine.session_mark, group.serial))
        states = {"pending": "PENDING", "ready": "CREATED", "removed": "REMOVED"}
        bundles = [] if group.state == "removed" else handle.bundle_specs
        rows[handle.id.hex()] = _row(
            handle, group.name, states[group.state], STRATEGIES[group.how], bundles
        )
    if placement_group is None:
        return rows
    _check_handle("placement_group_table", placement_group)
    gone = _row(placement_group, "", "REMOVED", "PACK", placement_group.bundle_cache or [])
    return rows.get(placement_group.id.hex(), gone)


def get_current_placement_group() -> PlacementGroup | None:
    """The group that the calling task runs in; None outside of tasks and groups."""
    engine = current.get_engine()
    serial = engine.current_group()
    return PlacementGroup(ids.of_group(engine.session_mark, serial)) if serial else None


def _row(
    handle: PlacementGroup, name: str, state: str, strategy: str, bundles: list[dict[str, float]]
) -> dict[str, Any]:
    node = current.get_engine().nodes()[0]["NodeID"] if state == "CREATED" else ""
    return {
        "placement_group_id": handle.id.hex(),
        "name": name,
        "bundles": dict(enumerate(bundles)),
        "bundles_to_node_id": dict.fromkeys(range(len(bundles)), node),
        "strategy": strategy,
        "state": state,
    }


def _bundles(id: PlacementGroupID) -> list[dict[str, float]]:
    engine = current.get_engine()
    return engine.group_bundles(ids.number_of_group(engine.session_mark, id))


def _check_handle(operation: str, handle: object) -> None:
    if not isinstance(handle, PlacementGroup):
        raise TypeError(f"{operation}: expected a PlacementGroup, not {handle!r}")


def _mode(strategy: str | None, topology: dict[str, str] | None) -> str:
    if topology is not None:
        if strategy is not None:
            raise ValueError("strategy and topology_strategy cannot both be given")
        strategy = topology.get("ray.io/node-id", "PACK")
    mode = "PACK" if strategy is None else strategy
    if mode not in STRATEGIES:
        raise ValueError(
            f"Invalid placement group strategy {mode!r}: valid are {', '.join(STRATEGIES)}"
        )
    return mode


def _check_bundles(bundles: Any) -> None:
    if not isinstance(bundles, list):
        raise ValueError(f"Placement group bundles must be a list, not {type(bundles).__name__}")
    if not bundles:
        raise ValueError("Bundles must be a non-empty list of dicts of resources")
    for bundle in bundles:
        if not isinstance(bundle, dict) or not all(isinstance(key, str) for key in bundle):
            raise ValueError(f"Bundles must be dicts of resources by name, not {bundle!r}")
        for key, amount in bundle.items():
            if isinstance(amount, bool) or not isinstance(amount, (int, float)):
                raise ValueError(f"Bundles must have numbers: {key!r} is {amount!r}")
            if not amount >= 0:
                raise ValueError(f"Bundles cannot have negative resources: {bundle!r}")
        if not any(bundle.values()):
            raise ValueError(f"Bundles cannot be empty or have only 0 of everything: {bundle!r}")


def _identity(group: PlacementGroup) -> PlacementGroup:
    return group


_ready: list[Any] = []


def _ready_task() -> Any:
    """The remote function behind `ready()`: it runs in the group, so when there is one."""
    if not _ready:
        from plasmid.remote import remote

        _ready.append(remote(num_cpus=0, name="PlacementGroup.ready")(_identity))
    return _ready[0]


def _within(group: PlacementGroup) -> dict[str, Any]:
    from plasmid.strategies import PlacementGroupSchedulingStrategy

    return {"scheduling_strategy": PlacementGroupSchedulingStrategy(group)}
