"""Where Ray programs find the class of references for annotations: `ObjectRef[int]`."""

from __future__ import annotations

from plasmid._core.core import ObjectRef

__all__ = ["ObjectRef"]
