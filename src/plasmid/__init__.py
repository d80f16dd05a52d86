"""plasmid: Ray's objects, tasks and actors on one machine, on shared memory. `import plasmid as
ray` and the program runs."""

from __future__ import annotations

# First: it says clearly where plasmid cannot run.
from plasmid import _platform as _platform  # isort: split

from plasmid import _later, exceptions, experimental, util
from plasmid import _private as _private
from plasmid.api import (
    available_resources,
    cancel,
    cluster_resources,
    delete_object,
    free,
    get,
    get_gpu_ids,
    get_object,
    list_named_objects,
    nodes,
    put,
    timeline,
    wait,
)
from plasmid.buffers import create, empty, empty_like, explain, get_buffer, seal
from plasmid.generator import DynamicObjectRefGenerator, ObjectRefGenerator
from plasmid.remote import remote
from plasmid.session import init, is_initialized, shutdown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from plasmid import (
        actor,
        cloudpickle,
        ids,
        internal,
        job_config,
        remote_function,
        runtime_context,
        runtime_env,
        types,
    )
    from plasmid._core.core import ObjectRef
    from plasmid._core.core import ObjectRef as ObjectID
    from plasmid.absent import (
        RESTORE_WORKER_MODE,
        SCRIPT_MODE,
        SPILL_WORKER_MODE,
        WORKER_MODE,
        ClientBuilder,
        Language,
        LoggingConfig,
        client,
        cpp_function,
        java_actor_class,
        java_function,
    )
    from plasmid.actor import get_actor, kill, method
    from plasmid.ids import (
        ActorClassID,
        ActorID,
        ClusterID,
        FunctionID,
        JobID,
        NodeID,
        PlacementGroupID,
        TaskID,
        UniqueID,
        WorkerID,
    )
    from plasmid.runtime_context import get_runtime_context

__version__ = "0.1.0"

__all__ = [
    "RESTORE_WORKER_MODE",
    "SCRIPT_MODE",
    "SPILL_WORKER_MODE",
    "WORKER_MODE",
    "ActorClassID",
    "ActorID",
    "ClientBuilder",
    "ClusterID",
    "DynamicObjectRefGenerator",
    "FunctionID",
    "JobID",
    "Language",
    "LoggingConfig",
    "NodeID",
    "ObjectID",
    "ObjectRef",
    "ObjectRefGenerator",
    "PlacementGroupID",
    "TaskID",
    "UniqueID",
    "WorkerID",
    "__version__",
    "actor",
    "available_resources",
    "cancel",
    "client",
    "cloudpickle",
    "cluster_resources",
    "cpp_function",
    "create",
    "delete_object",
    "empty",
    "empty_like",
    "exceptions",
    "experimental",
    "explain",
    "free",
    "get",
    "get_actor",
    "get_buffer",
    "get_gpu_ids",
    "get_object",
    "get_runtime_context",
    "ids",
    "init",
    "internal",
    "is_initialized",
    "java_actor_class",
    "java_function",
    "job_config",
    "kill",
    "list_named_objects",
    "method",
    "nodes",
    "put",
    "remote",
    "remote_function",
    "runtime_context",
    "runtime_env",
    "seal",
    "shutdown",
    "timeline",
    "types",
    "util",
    "wait",
]

# Loaded when they are asked for, or with the first session: the module, and the name there.
_LATER = {
    "ObjectID": ("plasmid._core.core", "ObjectRef"),
    "ObjectRef": ("plasmid._core.core", "ObjectRef"),
    "get_runtime_context": ("plasmid.runtime_context", "get_runtime_context"),
    **_later.names("plasmid.actor", "get_actor", "kill", "method"),
    **_later.names("plasmid.ids", "ActorClassID", "ActorID", "ClusterID", "FunctionID", "JobID"),
    **_later.names("plasmid.ids", "NodeID", "PlacementGroupID", "TaskID", "UniqueID", "WorkerID"),
    **_later.names("plasmid.absent", "ClientBuilder", "Language", "LoggingConfig", "client"),
    **_later.names("plasmid.absent", "cpp_function", "java_actor_class", "java_function"),
    **_later.names("plasmid.absent", "RESTORE_WORKER_MODE", "SPILL_WORKER_MODE"),
    **_later.names("plasmid.absent", "SCRIPT_MODE", "WORKER_MODE"),
    **_later.modules("plasmid", "actor", "cloudpickle", "ids", "internal", "job_config"),
    **_later.modules("plasmid", "remote_function", "runtime_context", "runtime_env", "types"),
}

_LIBRARIES = ("air", "autoscaler", "dag", "data", "llm", "rllib", "serve", "train", "tune")


def __getattr__(name: str) -> object:
    hint = f": Ray's {name} is no part of plasmid" if name in _LIBRARIES else ""
    return _later.load(__name__, _LATER, name, hint)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
