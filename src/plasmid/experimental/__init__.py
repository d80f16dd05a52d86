"""What Ray programs import from `ray.experimental`."""

from __future__ import annotations

__all__: list[str] = []
