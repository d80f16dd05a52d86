"""Objects on huge pages: first puts are several times as fast. Asked for, never required."""

from __future__ import annotations

import os
import warnings

SETTING = "PLASMID_HUGE_PAGES"
"""Environment variable: 1 asks for them."""

POLICY = "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
"""What the machine gives to shared memory."""

_GIVING = ("always", "within_size", "advise", "force")


def huge_pages(policy: str = POLICY) -> bool:
    """Whether the store is to have huge pages: they are asked for and the machine gives them; warns
    if it does not. ValueError."""
    asked = os.environ.get(SETTING, "0")
    if asked not in ("", "0", "1"):
        raise ValueError(f"init: {SETTING} is {asked!r}, but must be 1 or 0")
    if asked != "1":
        return False
    found = _chosen(policy)
    if found not in _GIVING:
        warnings.warn(
            f"{SETTING}=1 changes nothing here: this machine gives shared memory no huge pages "
            f"({policy}: {found or 'not there'}). Its administrator can: echo advise > {policy}",
            RuntimeWarning,
            stacklevel=2,
        )
    return found in _GIVING


def _chosen(policy: str) -> str:
    """The word in brackets; "" if there is none."""
    try:
        with open(policy) as file:
            return file.read().partition("[")[2].partition("]")[0]
    except OSError:
        return ""
