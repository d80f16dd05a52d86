"""Other names of plasmid: a program that was written for Ray may have given it the name `ray`, by
an import hook or by `sys.modules["ray"] = plasmid`. Functions that say `import ray` find it in
workers, too.

    names()         what the program calls it besides plasmid    ─►  boot configuration, functions
    install(names)  in a worker: `import ray.x` is `import plasmid.x`, the same module

Hooks that the environment brings (sitecustomize on PYTHONPATH) work in workers by themselves.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import ModuleType

_OWN = "plasmid"


def names() -> tuple[str, ...]:
    """The other names in this process, sorted. What is asked for later is not among them."""
    plasmid = sys.modules[_OWN]
    found = [name for name, module in list(sys.modules.items()) if module is plasmid]
    return tuple(sorted(name for name in found if name != _OWN))


def install(names: Iterable[str]) -> None:
    """Let each of these names, and the modules below it, mean plasmid in this process: also where a
    module of that name could be imported, as in the program."""
    new = set(names) - _finder.names
    if new and _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    _finder.names |= new


class _Finder:
    """Finds a module below an alias: the one of ours, whatever name it is asked for by."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._specs: dict[str, ModuleSpec | None] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        for alias in self.names:
            if name == alias or name.startswith(alias + "."):
                return ModuleSpec(name, self, origin=_OWN + name[len(alias) :])  # type: ignore[arg-type]
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        assert spec.origin is not None
        module = importlib.import_module(spec.origin)
        self._specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # It was executed under its own name. The import system has just put the alias's spec there.
        assert module.__spec__ is not None
        module.__spec__ = self._specs.pop(module.__spec__.name)


_finder = _Finder()
