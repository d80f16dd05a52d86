"""Names of Ray for what is not here. They can be imported; using them says so."""

from __future__ import annotations

from plasmid.exceptions import NotSupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = [
    "RESTORE_WORKER_MODE",
    "SCRIPT_MODE",
    "SPILL_WORKER_MODE",
    "WORKER_MODE",
    "ClientBuilder",
    "Language",
    "LoggingConfig",
    "client",
    "cpp_function",
    "java_actor_class",
    "java_function",
]

SCRIPT_MODE, WORKER_MODE, SPILL_WORKER_MODE, RESTORE_WORKER_MODE = range(4)


class Language:
    """Languages that functions are written in. Here it is Python."""

    PYTHON, JAVA, CPP = range(3)


def client(*args: object, **kwargs: object) -> NoReturn:
    """NotSupportedError: there are no remote sessions."""
    raise NotSupportedError("client: there are no remote sessions; init() starts or joins one here")


class ClientBuilder:
    """NotSupportedError when it is made: there are no remote sessions."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        client()


class LoggingConfig:
    """NotSupportedError when it is made: a program's logging is its own."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise NotSupportedError(
            "LoggingConfig: plasmid does not set up the program's logging; use the logging module, "
            "and init(logging_level=...) for plasmid's own messages"
        )


def java_function(class_name: str, function_name: str) -> NoReturn:
    """NotSupportedError: functions are written in Python."""
    raise NotSupportedError(f"java_function {class_name}.{function_name}: only Python runs here")


def java_actor_class(class_name: str) -> NoReturn:
    """NotSupportedError: classes are written in Python."""
    raise NotSupportedError(f"java_actor_class {class_name}: only Python runs here")


def cpp_function(function_name: str) -> NoReturn:
    """NotSupportedError: functions are written in Python."""
    raise NotSupportedError(f"cpp_function {function_name}: only Python runs here")
