"""Names that Ray programs reach for although they are private: `ray._private.internal_api`."""

from __future__ import annotations

from plasmid._private import internal_api

__all__ = ["internal_api"]
