"""`JobConfig`: what `init(job_config=...)` takes."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

__all__ = ["JobConfig"]


class JobConfig:
    """A program's settings, as an object; `init` uses them when it is given none of its own.

    ray_namespace           as init's `namespace`
    runtime_env             as init's `runtime_env`
    metadata                strings, for whoever reads them here
    code_search_path        folders that are put onto sys.path
    default_actor_lifetime  "detached" or "non_detached"

    `jvm_options` has no effect. ValueError for a bad lifetime, TypeError for bad types.
    """

    def __init__(
        self,
        jvm_options: list[str] | None = None,
        code_search_path: list[str] | None = None,
        runtime_env: dict[str, Any] | None = None,
        _client_job: bool = False,
        metadata: dict[str, str] | None = None,
        ray_namespace: str | None = None,
        default_actor_lifetime: str = "non_detached",
        _disable_job_level_lineage_reconstruction: bool = False,
        _py_driver_sys_path: list[str] | None = None,
    ) -> None:
        if code_search_path is not None and not isinstance(code_search_path, list):
            raise TypeError(f"JobConfig: code_search_path must be a list, not {code_search_path!r}")
        self.jvm_options = jvm_options or []
        self.code_search_path = code_search_path or []
        self.metadata = dict(metadata or {})
        self.ray_namespace = ray_namespace
        self.set_runtime_env(runtime_env)
        self.set_default_actor_lifetime(default_actor_lifetime)

    @classmethod
    def from_json(cls, job_config_json: dict[str, Any]) -> Self:
        """From what JSON can say: keys jvm_options, code_search_path, runtime_env, metadata and
        ray_namespace."""
        found = job_config_json.get
        return cls(
            jvm_options=found("jvm_options"),
            code_search_path=found("code_search_path"),
            runtime_env=found("runtime_env"),
            metadata=found("metadata"),
            ray_namespace=found("ray_namespace"),
        )

    def set_metadata(self, key: str, value: str) -> None:
        """Add one entry."""
        self.metadata[key] = value

    def set_ray_namespace(self, ray_namespace: str) -> None:
        """In which actors have names."""
        self.ray_namespace = ray_namespace

    def set_runtime_env(self, runtime_env: dict[str, Any] | None, validate: bool = False) -> None:
        """The environment that tasks run in."""
        if runtime_env is not None and not isinstance(runtime_env, dict):
            raise TypeError(f"JobConfig: runtime_env must be a dict, not {runtime_env!r}")
        self.runtime_env = runtime_env or {}

    def set_default_actor_lifetime(self, default_actor_lifetime: str) -> None:
        """Of actors without a lifetime of their own."""
        if default_actor_lifetime not in ("detached", "non_detached"):
            raise ValueError(
                "JobConfig: default_actor_lifetime is 'detached' or 'non_detached', not "
                f"{default_actor_lifetime!r}"
            )
        self.default_actor_lifetime = default_actor_lifetime
