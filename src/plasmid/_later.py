"""Attributes of a package that are loaded by whoever asks for them, so that importing the package
costs nothing."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def names(module: str, *names: str) -> dict[str, tuple[str, str]]:
    """Of that module."""
    return {name: (module, name) for name in names}


def modules(package: str, *names: str) -> dict[str, tuple[str, str]]:
    """Modules of that package."""
    return {name: (f"{package}.{name}", "") for name in names}


def load(package: str, later: Mapping[str, tuple[str, str]], name: str, hint: str = "") -> object:
    """The attribute `name` of `package`, which keeps it: `later` has its module, and its name there
    or "" for the module itself. AttributeError, with the hint, for others."""
    if name not in later:
        raise AttributeError(f"module {package!r} has no attribute {name!r}{hint}")
    module, attribute = later[name]
    __import__(module)
    found = getattr(sys.modules[module], attribute) if attribute else sys.modules[module]
    setattr(sys.modules[package], name, found)
    return found
