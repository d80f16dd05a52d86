"""Environments of tasks: what `runtime_env` may say, and `RuntimeEnv`, the same as an object.

    env_vars      {name: value}, strings. `${NAME}` in a value is that variable of the session's
    working_dir   a folder, used where it is: the task's working folder, and first on its sys.path
    py_modules    folders of packages, files (.py, .zip, .whl), or imported modules: the task can
                  import them
    excludes, config   accepted, without effect: nothing is copied, nothing is downloaded

Checked, an environment is a plain dict that JSON can tell, with absolute paths.
"""

from __future__ import annotations

import os

from plasmid.exceptions import NotSupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

__all__ = ["RuntimeEnv", "RuntimeEnvConfig"]

_REFUSED = {
    "conda": "it would be built from the network",
    "container": "tasks run in processes of this machine",
    "image_uri": "tasks run in processes of this machine",
    "java_jars": "tasks are Python functions",
    "nsight": "there are no profilers here",
    "pip": "it would be built from the network",
    "py_executable": "workers are forked, and run the program's Python",
    "rocprof_sys": "there are no profilers here",
    "uv": "it would be built from the network",
    "worker_process_setup_hook": "call it in the task",
}
_ARCHIVES = (".zip", ".whl", ".egg")


def checked(given: Any, what: str) -> dict[str, Any]:
    """What `given` says, as it is kept; {} if it says nothing. `what` names it in errors.

    TypeError and ValueError for what Ray refuses so, unknown names and paths where there is nothing
    among it; NotSupportedError for what plasmid does not have.
    """
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise TypeError(f"{what} must be a dict, not {given!r}")
    found = {}
    for name, value in given.items():
        if value is None:
            continue
        if name in _CHECKERS:
            kept = _CHECKERS[name](f"{what}[{name!r}]", value)
            if kept:
                found[name] = kept
        elif isinstance(name, str) and name.lstrip("_") in _REFUSED:
            why = _REFUSED[name.lstrip("_")]
            raise NotSupportedError(f"{what}: {name!r} is not supported: {why}")
        else:
            raise ValueError(_unknown(what, name))
    return found


def merged(outer: dict[str, Any], inner: dict[str, Any]) -> dict[str, Any]:
    """The environment `inner` of a task that is submitted where `outer` holds: key by key it is the
    inner one's, and of env_vars variable by variable."""
    found = {**outer, **inner}
    variables = {**outer.get("env_vars", {}), **inner.get("env_vars", {})}
    if variables:
        found["env_vars"] = variables
    return found


def _unknown(what: str, name: object) -> str:
    import difflib

    close = difflib.get_close_matches(str(name), _CHECKERS)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    return f"{what}: {name!r} is not known.{hint} Valid are: {', '.join(sorted(_CHECKERS))}."


def _env_vars(what: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError(f"{what} must be a dict of strings, not {value!r}")
    for name, text in value.items():
        for part in (name, text):
            if not isinstance(part, str):
                raise TypeError(f"{what} must be a dict of strings; {part!r} is none")
        if not name or "=" in name or "\0" in name + text or not _can_be_encoded(name + text):
            raise ValueError(f"{what}: no environment can have {name!r}: {text!r}")
    return dict(value)


def _can_be_encoded(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def _working_dir(what: str, value: Any) -> str:
    path = _path(what, value)
    if not os.path.isdir(path):
        raise ValueError(f"{what}: there is no folder {path!r}; archives are not unpacked")
    return path


def _py_modules(what: str, value: Any) -> list[str]:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{what} must be a list of paths and modules, not {value!r}")
    return [_py_module(what, each) for each in value]


def _py_module(what: str, value: Any) -> str:
    if type(value).__name__ == "module":
        value = (getattr(value, "__path__", None) or [getattr(value, "__file__", None)])[0]
    path = _path(what, value)
    if not os.path.isdir(path) and not (
        os.path.isfile(path) and path.endswith((".py", *_ARCHIVES))
    ):
        raise ValueError(
            f"{what}: {path!r} is no folder of a package, and no file that can be imported from "
            f"(.py, {', '.join(_ARCHIVES)})"
        )
    return path


def _path(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a string, not {value!r}")
    if "://" in value:
        raise NotSupportedError(f"{what}={value!r} is not supported: give a path on this machine")
    return os.path.abspath(os.path.expanduser(value))


def _excludes(what: str, value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise TypeError(f"{what} must be a list of strings, not {value!r}")


def _config(what: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise TypeError(f"{what} must be a dict or a RuntimeEnvConfig, not {value!r}")
    try:
        RuntimeEnvConfig(**value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{what}: {error}") from None


_CHECKERS: dict[str, Callable[[str, Any], Any]] = {
    "config": _config,
    "env_vars": _env_vars,
    "excludes": _excludes,
    "py_modules": _py_modules,
    "working_dir": _working_dir,
}


def import_paths(environment: dict[str, Any]) -> list[str]:
    """Where modules of a checked environment are found, the first place first."""
    found = [environment[name] for name in ("working_dir",) if name in environment]
    found += [
        path if path.endswith(_ARCHIVES) else os.path.dirname(path)
        for path in environment.get("py_modules", ())
    ]
    return list(dict.fromkeys(found))


class RuntimeEnv(dict[str, object]):
    """An environment as a dict that was checked when it was made: paths are absolute.

    Takes what `runtime_env` may say, by name; TypeError, ValueError and NotSupportedError as the
    option runtime_env.
    """

    def __init__(self, *, _validate: bool = True, **given: Any) -> None:
        super().__init__(checked(given, "RuntimeEnv") if _validate else given)

    def to_dict(self) -> dict[str, object]:
        """The same as a plain dict."""
        return dict(self)

    def serialize(self) -> str:
        """As JSON."""
        import json

        return json.dumps(self, sort_keys=True)

    @classmethod
    def deserialize(cls, serialized_runtime_env: str) -> Self:
        """From JSON, not checked again."""
        import json

        return cls(_validate=False, **json.loads(serialized_runtime_env))

    def __reduce__(self) -> tuple[Callable[[str], Self], tuple[str]]:
        return type(self).deserialize, (self.serialize(),)


class RuntimeEnvConfig(dict[str, object]):
    """How Ray sets an environment up; here there is nothing to wait for, and it has no effect.

    setup_timeout_seconds  a whole number, -1 or > 0
    eager_install          a bool
    """

    def __init__(
        self,
        setup_timeout_seconds: int = 600,
        eager_install: bool = True,
        log_files: list[str] | None = None,
    ) -> None:
        if not isinstance(setup_timeout_seconds, int):
            raise TypeError(
                f"RuntimeEnvConfig: setup_timeout_seconds must be a whole number, not "
                f"{setup_timeout_seconds!r}"
            )
        if setup_timeout_seconds <= 0 and setup_timeout_seconds != -1:
            raise ValueError(
                "RuntimeEnvConfig: setup_timeout_seconds must be -1 or greater than 0, not "
                f"{setup_timeout_seconds}"
            )
        if not isinstance(eager_install, bool):
            raise TypeError(
                f"RuntimeEnvConfig: eager_install must be a bool, not {eager_install!r}"
            )
        super().__init__(
            setup_timeout_seconds=setup_timeout_seconds,
            eager_install=eager_install,
            log_files=log_files or [],
        )
