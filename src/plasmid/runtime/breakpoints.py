"""What `breakpoint()` does in a worker; the debugger itself is loaded by the first."""

from __future__ import annotations

import os
import sys
from typing import Any


def terminal() -> str:
    """The terminal that this program reads from; "" if there is none."""
    try:
        return os.ttyname(0)
    except OSError:
        return ""


def prepare(terminal: str) -> None:
    """Have `breakpoint()` in this process reach that terminal. A PYTHONBREAKPOINT of the user's
    counts first, as ever. Without a terminal it says so, and the task goes on."""

    def stop(*args: Any, **kwargs: Any) -> Any:
        if os.environ.get("PYTHONBREAKPOINT") is not None:
            return sys.__breakpointhook__(*args, **kwargs)
        from plasmid.runtime.debugger import Debugger

        caller = sys._getframe(1)
        try:
            debugger = Debugger(terminal)
        except OSError as error:
            why = f"terminal {terminal}: {error}" if terminal else "its session has no terminal"
            where = f"{caller.f_code.co_filename}:{caller.f_lineno}"
            print(f"breakpoint() at {where} is passed by: {why}", file=sys.stderr)
            return None
        debugger.set_trace(caller)
        return None

    sys.breakpointhook = stop
