"""What Ray programs call of `ray._private.internal_api`."""

from __future__ import annotations

from plasmid.engine import current

__all__ = ["memory_summary"]


def memory_summary(*_args: object, **_options: object) -> str:
    """What is in the object store, as text for people. Ray's arguments choose among tables that do
    not exist here."""
    return current.get_engine().memory_summary()
