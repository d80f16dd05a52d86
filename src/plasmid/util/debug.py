"""Logging once: `if log_once("key"): logger.warning(...)`."""

from __future__ import annotations

import time

__all__ = ["disable_log_once_globally", "enable_periodic_logging", "log_once", "reset_log_once"]

PERIOD_SECONDS = 60.0


class _State:
    """Of this process. A race of two threads may log once more, no worse."""

    seen: dict[str, float] = {}  # noqa: RUF012
    disabled = False
    periodic = False


def log_once(key: str) -> bool:
    """Whether this is the first call with that key in this process; see the functions below."""
    if _State.disabled:
        return False
    now, last = time.monotonic(), _State.seen.get(key)
    if last is not None and not (_State.periodic and now - last > PERIOD_SECONDS):
        return False
    _State.seen[key] = now
    return True


def disable_log_once_globally() -> None:
    """Let `log_once` be False from now on."""
    _State.disabled = True


def enable_periodic_logging() -> None:
    """Let `log_once` be True again a minute after it was."""
    _State.periodic = True


def reset_log_once(key: str | None = None) -> None:
    """Forget that key, or all."""
    if key is None:
        _State.seen.clear()
    else:
        _State.seen.pop(key, None)
