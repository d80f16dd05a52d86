"""Where Ray programs find what is not quite public: `ray.internal`."""

from __future__ import annotations

from plasmid._private.internal_api import free, memory_summary

__all__ = ["free", "memory_summary"]
