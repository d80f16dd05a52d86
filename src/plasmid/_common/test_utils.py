"""What tests of Ray programs import: waiting for what no event tells, and programs of their own."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["async_wait_for_condition", "run_string_as_driver", "wait_for_condition"]


def wait_for_condition(
    condition_predictor: Callable[..., Any],
    timeout: float = 10,
    retry_interval_ms: float = 100,
    raise_exceptions: bool = False,
    **kwargs: Any,
) -> None:
    """Return when `condition_predictor(**kwargs)` is true.

    It is called every `retry_interval_ms`. RuntimeError after `timeout` seconds, caused by the
    last exception of the condition, if it raised; with `raise_exceptions` that is raised at once.
    """
    deadline, failure = time.monotonic() + timeout, None
    while True:
        try:
            if condition_predictor(**kwargs):
                return
        except Exception as error:
            if raise_exceptions:
                raise
            failure = error
        if time.monotonic() > deadline:
            raise _too_late(condition_predictor, timeout, failure) from failure
        time.sleep(retry_interval_ms / 1000)


async def async_wait_for_condition(
    condition_predictor: Callable[..., Any],
    timeout: float = 10,
    retry_interval_ms: float = 100,
    **kwargs: Any,
) -> None:
    """The same for a coroutine, and for a condition that may be one."""
    deadline, failure = time.monotonic() + timeout, None
    while True:
        try:
            answer = condition_predictor(**kwargs)
            if await answer if inspect.isawaitable(answer) else answer:
                return
        except Exception as error:
            failure = error
        if time.monotonic() > deadline:
            raise _too_late(condition_predictor, timeout, failure) from failure
        await asyncio.sleep(retry_interval_ms / 1000)


def run_string_as_driver(
    driver_script: str, env: dict[str, str] | None = None, encode: str = "utf-8"
) -> str:
    """Run a program of its own and return what it printed, stderr included. CalledProcessError,
    which has that, too, if it fails."""
    done = subprocess.run(
        [sys.executable, "-"],
        input=driver_script.encode(encode),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(os.environ) if env is None else env,
    )
    printed = done.stdout.decode(encode)
    if done.returncode:
        print(printed, file=sys.stderr)
        raise subprocess.CalledProcessError(done.returncode, done.args, printed)
    return printed


def _too_late(
    condition: Callable[..., Any], timeout: float, failure: Exception | None
) -> RuntimeError:
    name = getattr(condition, "__qualname__", repr(condition))
    why = f"; it raised {failure!r}" if failure else ""
    return RuntimeError(f"{name} has not become true in {timeout:g} seconds{why}")
