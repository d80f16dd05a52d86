"""plasmid: Ray's objects and tasks on one machine, on shared memory. `import plasmid as ray` and
the program runs."""

from __future__ import annotations

# First: it says clearly where plasmid cannot run.
from plasmid import _platform as _platform  # isort: split

from plasmid import _private as _private
from plasmid import exceptions, experimental, util
from plasmid.api import (
    available_resources,
    cancel,
    cluster_resources,
    delete_object,
    free,
    get,
    get_object,
    list_named_objects,
    nodes,
    put,
    wait,
)
from plasmid.buffers import create, empty, empty_like, explain, get_buffer, seal
from plasmid.remote import remote
from plasmid.session import init, is_initialized, shutdown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from plasmid._core.core import ObjectRef

__version__ = "0.1.0"

__all__ = [
    "ObjectRef",
    "__version__",
    "available_resources",
    "cancel",
    "cluster_resources",
    "create",
    "delete_object",
    "empty",
    "empty_like",
    "exceptions",
    "experimental",
    "explain",
    "free",
    "get",
    "get_buffer",
    "get_object",
    "init",
    "is_initialized",
    "list_named_objects",
    "nodes",
    "put",
    "remote",
    "seal",
    "shutdown",
    "util",
    "wait",
]


def __getattr__(name: str) -> object:
    # The core is loaded with the first session, or by whoever asks for the class.
    if name == "ObjectRef":
        from plasmid._core.core import ObjectRef

        globals()[name] = ObjectRef
        return ObjectRef
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
