"""What is beneath the API: `base` is the interface, `current` holds the engine in use."""

from __future__ import annotations

from plasmid.engine.base import Engine, FunctionHandle, SessionConfig, TaskOptions
from plasmid.engine.current import get_engine, set_engine

__all__ = [
    "Engine",
    "FunctionHandle",
    "SessionConfig",
    "TaskOptions",
    "get_engine",
    "set_engine",
]
