"""`python -m plasmid`: the same program as the command `plasmid`."""

from __future__ import annotations

import sys

from plasmid.cli import main

if __name__ == "__main__":
    sys.exit(main())
