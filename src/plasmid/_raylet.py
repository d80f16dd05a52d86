"""Names that programs import from `ray._raylet`."""

from __future__ import annotations

from plasmid.generator import (
    DynamicObjectRefGenerator,
    ObjectRefGenerator,
    StreamingObjectRefGenerator,
)

__all__ = ["DynamicObjectRefGenerator", "ObjectRefGenerator", "StreamingObjectRefGenerator"]
