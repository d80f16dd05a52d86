"""`init`, `shutdown`, `is_initialized`: the beginning and the end of a session."""

from __future__ import annotations

import atexit
import os
import sys

from plasmid.engine import current
from plasmid.engine.base import SessionConfig
from plasmid.exceptions import NotSupportedError, UsageError
from plasmid.options import check_resources, is_neutral
from plasmid.runtime_env import checked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from plasmid.job_config import JobConfig

__all__ = ["Context", "init", "is_initialized", "shutdown"]

# Names that Ray takes beyond its signature. They set up parts of Ray that have no counterpart here.
_IGNORED = frozenset(
    {
        "_driver_object_store_memory",
        "_enable_object_reconstruction",
        "_metrics_export_port",
        "_node_ip_address",
        "_node_name",
        "_plasma_directory",
        "_redis_password",
        "_redis_username",
        "_skip_env_hook",
        "_temp_dir",
        "_tracing_startup_hook",
    }
)


class Context(dict[str, object]):
    """What `init` returns: address_info as a mapping, and a context manager that ends the session,
    as `plasmid.shutdown()` does."""

    def __init__(self, address_info: dict[str, Any]) -> None:
        from plasmid import __version__

        super().__init__(address_info)
        self.dashboard_url = ""
        self.python_version = ".".join(map(str, sys.version_info[:3]))
        self.plasmid_version = self.ray_version = __version__

    @property
    def address_info(self) -> dict[str, object]:
        """Where the session is."""
        return dict(self)

    def disconnect(self) -> None:
        """The same as `plasmid.shutdown()`."""
        shutdown()

    def __enter__(self) -> Context:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutdown()

    def __repr__(self) -> str:
        return (
            f"Context(dashboard_url={self.dashboard_url!r}, "
            f"python_version={self.python_version!r}, plasmid_version={self.plasmid_version!r})"
        )


def init(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    resources: dict[str, float] | None = None,
    labels: dict[str, str] | None = None,
    object_store_memory: int | None = None,
    local_mode: bool = False,
    ignore_reinit_error: bool = False,
    include_dashboard: bool | None = None,
    dashboard_host: str = "127.0.0.1",
    dashboard_port: int | None = None,
    job_config: JobConfig | None = None,
    configure_logging: bool = True,
    logging_level: int | str = "info",
    logging_format: str | None = None,
    logging_config: object = None,
    log_to_driver: bool | None = None,
    namespace: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    enable_resource_isolation: bool = False,
    cgroup_path: str | None = None,
    system_reserved_cpu: float | None = None,
    system_reserved_memory: int | None = None,
    proxy_server_url: str | None = None,
    object_spilling_directory: str | None = None,
    **kwargs: object,
) -> Context:
    """Start a session, or join one; the first use of anything else does so with the defaults.

    address              "local": start a new session. "auto": join one of this user's that runs
                         (and has the same PLASMID_SCOPE in its environment): one that `plasmid
                         start` started first, else the youngest. Else the address of one: what
                         `plasmid start` printed, or `init().address_info["address"]`. None: the
                         environment's PLASMID_ADDRESS or RAY_ADDRESS, else a session that
                         `plasmid start` started (unless an argument asks for a new one's size),
                         else a new one
    num_cpus             how many CPUs tasks may use at once. Default: those this process may run on
    num_gpus             how many GPUs. Default: NVIDIA's that CUDA_VISIBLE_DEVICES leaves. A task
                         finds those that it holds in its own CUDA_VISIBLE_DEVICES
    resources            what else tasks may ask for, by names of your own: {"license": 2}; at most
                         11. They are counted, nothing more; so is memory (`_memory`, in bytes)
    object_store_memory  size of the shared memory in bytes. Default: a share of the machine's
    object_spilling_directory  where objects go that do not fit into that. Default: what
                         PLASMID_SPILL_FOLDER says in the environment, else the folder for temporary
                         files, if that is on a disk
    namespace            in which actors have names
    job_config           a JobConfig: namespace and the like, where they are not given here
    labels               shown in `nodes()`
    runtime_env          the environment of this program's tasks: env_vars, working_dir, py_modules;
                         see plasmid.runtime_env. This process itself stays as it is
    logging_level        of plasmid's own messages
    log_to_driver        whether what tasks print appears here (default: yes). That of a session
                         that is joined appears where it was started
    ignore_reinit_error  if there is a session already, use that instead of raising RuntimeError

    The other names are Ray's. Those that ask for what plasmid does not have (logging_config,
    local_mode, ...) are accepted with their neutral values and raise NotSupportedError with others.
    Those that set up parts of Ray (the dashboard, log formats, ports, cgroups and names that begin
    with an underscore) have no effect. Other names raise UsageError, a
    TypeError.

    Returns a context manager that ends the session, with `address_info`.

    Processes and threads: any thread may call it. Returns as soon as the shared memory exists,
    before the first worker does. A session that this process started ends with it, whatever ends
    it, `kill -9` included. A session that it joined goes on without it, and what it put goes unless
    others hold it; if that session ends first, every call raises SessionError until the next init.

    SessionNotFoundError, a ConnectionError, if no session is at the address; AuthenticationError, a
    PermissionError, if it is another user's. ValueError if an argument asks for a new session's
    size or labels when one is joined.
    """
    memory = kwargs.pop("_memory", None)
    system = kwargs.pop("_system_config", None)
    _check_names(kwargs)
    _refuse("local_mode", local_mode, False, None)
    job = _job_config(job_config)
    _refuse("logging_config", logging_config, None)
    _refuse("enable_resource_isolation", enable_resource_isolation, False, None)
    sizes = {
        "num_cpus": num_cpus,
        "num_gpus": num_gpus,
        "resources": resources or None,
        "_memory": memory,
        "object_store_memory": object_store_memory,
        "labels": labels,
    }
    config = SessionConfig(
        address=_address(
            address,
            [name for name, value in sizes.items() if value is not None],
            new=object_spilling_directory is not None,
        ),
        num_cpus=_whole("num_cpus", num_cpus),
        num_gpus=_num_gpus(num_gpus),
        memory=_whole("_memory", memory),
        resources=_resources(resources),
        object_store_memory=_object_store_memory(object_store_memory),
        namespace=_namespace(job.ray_namespace if namespace is None else namespace),
        labels=_labels(labels),
        runtime_env=checked(
            job.runtime_env if runtime_env is None else runtime_env, "init: runtime_env"
        ),
        logging_level=_logging_level(logging_level),
        log_to_driver=log_to_driver is None or bool(log_to_driver),
        spill_folder=_spill_folder(object_spilling_directory, system),
    )
    with current.lock:
        if current.engine.is_over:
            current.stop()
        if current.is_started():
            if not ignore_reinit_error:
                raise RuntimeError(
                    "init: there is a session already; call shutdown() first, or use it by "
                    "ignore_reinit_error=True"
                )
        else:
            sys.path[:0] = [path for path in job.code_search_path if path not in sys.path]
            current.start(config)
        return Context(current.engine.address_info())


def shutdown(*, wait_for_processes: bool = False, _exiting_interpreter: bool = False) -> None:
    """End the session: its processes stop, and its memory is freed.

    Views that this process still has stay valid.

    Called at exit by itself. Without a session it does nothing, and neither in a task: the session
    that it runs in is its driver's. Always waits for the processes, whatever is passed.

    Processes and threads: any thread may call it; other threads that wait in `get` get a
    SessionError, and so does what would start a new session before this one is gone. Not for a
    callback of a future: shutdown waits for that, for five seconds.
    """
    current.stop()


def is_initialized() -> bool:
    """Whether this process has a session."""
    return current.is_started()


# A thread that lives on must not start a session that nobody would end.
atexit.register(current.stop, "the interpreter is exiting")


def _check_names(kwargs: dict[str, object]) -> None:
    unknown = sorted(kwargs.keys() - _IGNORED)
    if unknown:
        import difflib
        import inspect

        known = [name for name in inspect.signature(init).parameters if name != "kwargs"]
        close = difflib.get_close_matches(unknown[0], known + sorted(_IGNORED))
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise UsageError(f"init: unknown argument {', '.join(map(repr, unknown))}{hint}")


def _refuse(name: str, value: object, *neutral: object) -> None:
    """Accept only values that ask for nothing."""
    if not is_neutral(value, neutral):
        raise NotSupportedError(f"init: {name}={value!r} is not supported")


def _job_config(job_config: Any) -> JobConfig:
    from plasmid.job_config import JobConfig

    if job_config is None:
        return JobConfig()
    if not isinstance(job_config, JobConfig):
        raise TypeError(f"init: job_config must be a JobConfig, not {job_config!r}")
    return job_config


def _address(address: str | None, sizes: list[str], new: bool) -> str | None:
    """The address of a session to join, "local" for a new one, None for the engine to decide.
    `sizes`: arguments for a new one. `new`: others that one that is joined does without."""
    if address is not None and not isinstance(address, str):
        raise TypeError(f"init: address must be a string, not {address!r}")
    address = address or os.environ.get("PLASMID_ADDRESS") or os.environ.get("RAY_ADDRESS") or None
    if address is None and (sizes or new):
        return "local"
    if address is None or address == "local":
        return address
    if "://" in address:
        raise NotSupportedError(f"init: address={address!r}: there are no remote sessions")
    if sizes:
        raise ValueError(
            f"init: when a session is joined, {' and '.join(sizes)} must not be given: "
            "it has its own"
        )
    return address


def _whole(name: str, value: Any) -> int | None:
    if value is None:
        return None
    number = _number(name, value)
    if number < 0:
        raise ValueError(f"init: {name} must not be negative, got {value!r}")
    if number != int(number):
        raise ValueError(f"init: {name} must be a whole number, got {value!r}")
    return int(number)


def _num_gpus(value: Any) -> int | None:
    number = _whole("num_gpus", value)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if number and visible is not None:
        there = 0 if visible in ("", "NoDevFiles") else visible.count(",") + 1
        if number > there:
            raise ValueError(
                f"init: num_gpus={number}, but CUDA_VISIBLE_DEVICES={visible!r} names {there}"
            )
    return number


def _resources(value: Any) -> dict[str, float]:
    if value is None:
        return {}
    check_resources("init: resources", value)
    for name in value:
        if name.startswith("node:"):
            raise ValueError(f"init: resources: {name!r} is of plasmid's own")
    return dict(value)


def _object_store_memory(value: Any) -> int | None:
    if value is None:
        return None
    number = _number("object_store_memory", value)
    if number <= 0:
        raise ValueError(
            f"init: object_store_memory must be a positive number of bytes, got {value!r}"
        )
    if number < SessionConfig.MINIMUM_STORE:
        raise ValueError(
            f"init: object_store_memory is {value!r} bytes, but must be at least "
            f"{SessionConfig.MINIMUM_STORE}"
        )
    return int(number)


def _spill_folder(value: object, system: object) -> str | None:
    """`object_spilling_directory`, or what Ray's older `_system_config` says in its place."""
    if value is None:
        return _configured_folder(system)
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"init: object_spilling_directory must be a path, not {value!r}")
    return os.fspath(value)


def _configured_folder(system: object) -> str | None:
    import json

    text = system.get("object_spilling_config") if isinstance(system, dict) else None
    if not text:
        return None
    try:
        config = json.loads(text)
        kind, folder = config["type"], config["params"].get("directory_path")
    except (TypeError, ValueError, KeyError, AttributeError):
        raise ValueError(
            f"init: object_spilling_config is {text!r}, but must be JSON as "
            '{"type": "filesystem", "params": {"directory_path": "/mnt/disk"}}'
        ) from None
    if kind != "filesystem":
        raise NotSupportedError(f"init: objects are spilled to files, not to {kind!r}")
    return str(folder[0] if isinstance(folder, list) and folder else folder) or None


def _number(name: str, value: Any) -> int | float:
    """`value` as a finite number. Not bool: `num_cpus=True` is a mistake, not one CPU."""
    kind = type(value).__name__
    if kind in ("bool", "bool_") or isinstance(value, (str, bytes)):
        raise TypeError(f"init: {name} must be a number, not {value!r} ({kind})")
    if hasattr(value, "__index__"):
        return int(value.__index__())
    if not hasattr(value, "__float__"):
        raise TypeError(f"init: {name} must be a number, not {value!r} ({kind})")
    number = float(value)
    if number - number != 0:
        raise ValueError(f"init: {name} must be finite, got {value!r}")
    return number


def _namespace(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"init: namespace must be a string, not {value!r}")
    if not value:
        raise ValueError("init: namespace must not be empty")
    return value


def _labels(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(
        isinstance(text, str) for pair in value.items() for text in pair
    ):
        raise TypeError(f"init: labels must be a dict of strings, not {value!r}")
    return dict(value)


def _logging_level(value: object) -> int | str:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise TypeError(
            f"init: logging_level must be a number or the name of a level, not {value!r}"
        )
    return value
