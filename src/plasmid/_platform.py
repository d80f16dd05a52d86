"""Importing this module raises UnsupportedPlatformError where plasmid cannot run."""

from __future__ import annotations

import sys

from plasmid.exceptions import UnsupportedPlatformError


def objection(system: str, word: int, order: str, implementation: str) -> str | None:
    """Why plasmid cannot run on such a machine, or None. `word`: bits of a pointer."""
    if system == "linux" and word == 64 and order == "little" and implementation == "cpython":
        return None
    return (
        "plasmid runs on CPython on 64-bit little-endian Linux (x86-64 or ARM64): it is built on "
        f"memfd, futex and pidfd. This is {implementation} on {system}, {word}-bit, {order}-endian."
    )


_message = objection(
    sys.platform, sys.maxsize.bit_length() + 1, sys.byteorder, sys.implementation.name
)
if _message:
    raise UnsupportedPlatformError(_message)
