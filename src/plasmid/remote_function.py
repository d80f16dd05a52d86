"""Where Ray programs find the class of remote functions."""

from __future__ import annotations

from plasmid.remote import RemoteFunction

__all__ = ["RemoteFunction"]
