"""What Ray programs import from `ray.util`."""

# No `from __future__ import annotations`: the name is a module's here.
from plasmid import _later
from plasmid.util.completion import as_completed, map_unordered

# As in Ray the name is the function, and `from plasmid.util.placement_group import ...` works.
from plasmid.util.placement_group import (
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from plasmid.util.serializers import deregister_serializer, register_serializer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from plasmid.actor import list_named_actors
    from plasmid.experimental.tqdm_ray import tqdm
    from plasmid.util import (
        actor_group,
        actor_pool,
        annotations,
        check_serialize,
        debug,
        iter,
        joblib,
        multiprocessing,
        queue,
        scheduling_strategies,
        state,
    )
    from plasmid.util.actor_group import ActorGroup
    from plasmid.util.actor_pool import ActorPool
    from plasmid.util.check_serialize import inspect_serializability
    from plasmid.util.debug import disable_log_once_globally, enable_periodic_logging, log_once

__all__ = [
    "ActorGroup",
    "ActorPool",
    "actor_group",
    "actor_pool",
    "annotations",
    "as_completed",
    "check_serialize",
    "debug",
    "deregister_serializer",
    "disable_log_once_globally",
    "enable_periodic_logging",
    "get_current_placement_group",
    "get_node_ip_address",
    "get_placement_group",
    "inspect_serializability",
    "iter",
    "joblib",
    "list_named_actors",
    "log_once",
    "map_unordered",
    "multiprocessing",
    "placement_group",
    "placement_group_table",
    "queue",
    "register_serializer",
    "remove_placement_group",
    "scheduling_strategies",
    "state",
    "tqdm",
]

_LATER = {
    "ActorGroup": ("plasmid.util.actor_group", "ActorGroup"),
    "ActorPool": ("plasmid.util.actor_pool", "ActorPool"),
    "inspect_serializability": ("plasmid.util.check_serialize", "inspect_serializability"),
    "list_named_actors": ("plasmid.actor", "list_named_actors"),
    "tqdm": ("plasmid.experimental.tqdm_ray", "tqdm"),
    **_later.names("plasmid.util.debug", "disable_log_once_globally", "enable_periodic_logging"),
    **_later.names("plasmid.util.debug", "log_once"),
    **_later.modules("plasmid.util", "actor_group", "actor_pool", "annotations", "queue"),
    **_later.modules("plasmid.util", "check_serialize", "debug", "iter"),
    **_later.modules("plasmid.util", "joblib", "multiprocessing"),
    **_later.modules("plasmid.util", "scheduling_strategies", "state"),
}


def get_node_ip_address(address: str = "") -> str:
    """The address of this machine as `nodes()` says it: the loopback's, since nothing else can
    reach a session. `address` has no effect."""
    return "127.0.0.1"


def __getattr__(name: str) -> object:
    return _later.load(__name__, _LATER, name)
