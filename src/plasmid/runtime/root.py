"""The root process of a session that outlives its starter: it plays the driver's part, and runs
nothing.

`plasmid start` starts it. It tells by its pipe when the session can be joined, and ends the session
upon SIGTERM or SIGINT; its death by any other cause ends it, too.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from plasmid.runtime import handover
from plasmid.runtime.keeper import set_title
from plasmid.runtime.session import Session

_SIGNALS = {signal.SIGTERM, signal.SIGINT}


def main(argv: list[str]) -> None:
    """argv: the pipe's descriptor, then the session's options as JSON."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # also in the threads to come
    ready, options = int(argv[0]), json.loads(argv[1])
    os.set_inheritable(ready, False)  # so its end tells of ours, not of the keeper's, too
    set_title("plasmid-root")
    try:
        session = Session(**options, name=handover.new_name("started"))
    except Exception as error:
        os.write(ready, f"!{type(error).__name__}: {error}".encode()[:4000])
        raise SystemExit(1) from error
    os.write(ready, session.name.encode())
    os.close(ready)
    signal.sigwait(_SIGNALS)
    session.close()


if __name__ == "__main__":
    main(sys.argv[1:])
