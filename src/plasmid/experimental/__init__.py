"""What Ray programs import from `ray.experimental`."""

from __future__ import annotations

from plasmid.engine import current

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from plasmid._core.core import ObjectRef

__all__ = ["get_object_locations"]


def get_object_locations(
    obj_refs: list[ObjectRef], timeout_ms: int = -1
) -> dict[ObjectRef, dict[str, Any]]:
    """Where objects are: for each a dict with "node_ids", "object_size" (bytes; None while there is
    no value) and "did_spill".

    `timeout_ms` has no effect: the answer is known here. TypeError for what is no list of
    references.
    """
    engine = current.get_engine()
    if not isinstance(obj_refs, list) or any(type(ref) is not engine.ref_type for ref in obj_refs):
        raise TypeError("get_object_locations: expected a list of ObjectRefs")
    return engine.locate(obj_refs)
