"""Call sites: where in the user's program an object was made.

Recorded when the environment asks for it, since it costs a walk over the stack and a block for each
small value.
"""

from __future__ import annotations

import os
import sys

ENABLED = any(
    os.environ.get(name, "") not in ("", "0")
    for name in ("PLASMID_RECORD_CALL_SITES", "RAY_record_ref_creation_sites")
)


def here() -> bytes:
    """`file:line function` of the innermost frame that is not ours."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == "plasmid":
        frame = frame.f_back
    code = frame.f_code
    return f"{code.co_filename}:{frame.f_lineno} {code.co_qualname}".encode(errors="replace")
