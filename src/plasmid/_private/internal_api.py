"""What Ray programs call of `ray._private.internal_api`."""

from __future__ import annotations

__all__: list[str] = []
