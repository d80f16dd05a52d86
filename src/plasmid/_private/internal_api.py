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


def memory_summary(*_args: object, **_options: object) -> str:
    """What is in the object store, as text for people. Ray's arguments choose among tables that do
    not exist here."""
    return current.get_engine().memory_summary()
