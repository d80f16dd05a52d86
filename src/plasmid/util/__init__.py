"""What Ray programs import from `ray.util`."""

from __future__ import annotations

from plasmid.util.completion import as_completed, map_unordered
from plasmid.util.serializers import deregister_serializer, register_serializer

__all__ = ["as_completed", "deregister_serializer", "map_unordered", "register_serializer"]
