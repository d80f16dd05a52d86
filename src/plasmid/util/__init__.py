"""What Ray programs import from `ray.util`."""

from __future__ import annotations

__all__: list[str] = []
