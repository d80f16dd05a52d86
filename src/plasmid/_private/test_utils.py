"""Where programs written for older releases of Ray find its helpers for tests."""

from __future__ import annotations

from plasmid._common.test_utils import (
    async_wait_for_condition,
    run_string_as_driver,
    wait_for_condition,
)

__all__ = ["async_wait_for_condition", "run_string_as_driver", "wait_for_condition"]
