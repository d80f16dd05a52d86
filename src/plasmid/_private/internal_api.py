"""What Ray programs call of `ray._private.internal_api`."""

from __future__ import annotations

from plasmid import api
from plasmid.engine import current

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["free", "memory_summary"]


def free(object_refs: Any, local_only: bool = False) -> None:
    """`plasmid.free`; there is one node, so `local_only` has no effect."""
    api.free(object_refs)


def memory_summary(
    address: str | None = None,
    redis_password: str = "",
    group_by: str = "NODE_ADDRESS",
    sort_by: str = "OBJECT_SIZE",
    units: str = "B",
    line_wrap: bool = True,
    stats_only: bool = False,
    num_entries: int | None = None,
) -> str:
    """What is in the object store and who keeps it there, as text for people.

    A line of totals, then the objects, the largest first.

    `stats_only`: the line of totals. `num_entries`: so many objects (default 100). Ray's other
    arguments choose among tables that do not exist here.
    """
    most = 0 if stats_only else 100 if num_entries is None else num_entries
    text = current.get_engine().memory_summary(most)
    return text.partition("\n")[0] if stats_only else text
