"""The command `plasmid`: one subcommand per thing a shell may ask for.

A subcommand is a function `_add_<name>(commands)` that declares its arguments and names the
function that runs it; `_COMMANDS` lists them. Only the chosen one is imported, so `plasmid --help`
stays quick.

Exit status: 0 done, 1 it failed (the reason is on stderr), 2 wrong arguments, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from plasmid import __version__
from plasmid.exceptions import PlasmidError

_Commands = Any  # argparse keeps the class of add_subparsers() to itself


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: `sys.argv`) and return the exit status."""
    args = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        status = run(args)
        sys.stdout.flush()
    except PlasmidError as error:
        print(f"plasmid: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`plasmid demo | head -1`). Python flushes stdout once
        # more at exit; on /dev/null that cannot fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="plasmid",
        description="Objects, tasks and actors shared by the processes of one machine.",
    )
    parser.add_argument("--version", action="version", version=f"plasmid {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in _COMMANDS:
        add(commands)
    return parser


def _add_demo(commands: _Commands) -> None:
    parser = commands.add_parser(
        "demo",
        help="count what Python's standard library consists of, on all cores",
        description="Share the sources of Python's standard library (or of FOLDER) as one object, "
        "parse them in parallel tasks, and compare answer and time with one process.",
    )
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="other sources")
    parser.add_argument("--cpus", type=_positive, metavar="N", help="workers (default: all cores)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.set_defaults(run=_demo)


def _demo(args: argparse.Namespace) -> int:
    from plasmid import demo

    return demo.run(args.folder, cpus=args.cpus, as_json=args.json)


def _add_start(commands: _Commands) -> None:
    parser = commands.add_parser(
        "start",
        help="start a session that programs join, and that outlives them",
        description="Start a session. Programs of this user join it by plasmid.init(), until "
        "`plasmid stop`.",
    )
    parser.add_argument("--num-cpus", type=_positive, metavar="N", help="default: all cores")
    parser.add_argument("--num-gpus", type=_whole, metavar="N", help="default: all that are found")
    parser.add_argument(
        "--resources", type=_resources, metavar="JSON", help="""what else, as '{"license": 2}'"""
    )
    parser.add_argument(
        "--object-store-memory", type=_positive, metavar="BYTES", help="default: a share of memory"
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="append what tasks print here")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.set_defaults(run=_start)


def _start(args: argparse.Namespace) -> int:
    from plasmid import sessions

    address = sessions.start(
        args.num_cpus, args.object_store_memory, args.log, args.num_gpus, args.resources
    )
    if args.json:
        import json

        print(json.dumps({"address": address}))
        return 0
    print(address)
    print(
        "Programs of this user join it by plasmid.init(); `plasmid stop` ends it.", file=sys.stderr
    )
    return 0


def _add_stop(commands: _Commands) -> None:
    parser = commands.add_parser(
        "stop",
        help="end the sessions that `plasmid start` started",
        description="End all started sessions of this user, or the one at ADDRESS, and wait until "
        "they are gone. Status 1 if there is none.",
    )
    parser.add_argument("--address", metavar="ADDRESS")
    parser.set_defaults(run=_stop)


def _stop(args: argparse.Namespace) -> int:
    from plasmid import sessions

    stopped = sessions.stop(args.address)
    for address in stopped:
        print(f"stopped {address}")
    if not stopped:
        print("plasmid: no started session of this user", file=sys.stderr)
    return 0 if stopped else 1


def _add_status(commands: _Commands) -> None:
    parser = commands.add_parser("status", help="list the running sessions of this user")
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of text")
    parser.set_defaults(run=_status)


def _status(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from plasmid import sessions

    found = sessions.status()
    if args.json:
        import json

        print(json.dumps([asdict(session) for session in found]))
        return 0
    if not found:
        print("plasmid: no session of this user", file=sys.stderr)
        return 0
    from plasmid import _tables

    columns = ["address", "kind", ">pid", ">CPUs", ">workers", ">programs", ">objects"]
    rows = [
        [
            session.address,
            "started" if session.started else "of a program",
            str(session.pid),
            f"{session.cpus:g}",
            str(session.workers),
            str(session.programs),
            f"{session.objects:,}",
            f"{session.used_bytes:,}",
            f"{session.store_bytes:,}",
        ]
        for session in found
    ]
    _tables.show([*columns, ">bytes used", ">of"], rows)
    return 0


def _add_memory(commands: _Commands) -> None:
    parser = commands.add_parser(
        "memory",
        help="show what is in a session's store, and who keeps it there",
        description="List the objects of a running session, the largest first: size, state, type, "
        "who holds and views them, and where they were made if the session's programs have "
        "PLASMID_RECORD_CALL_SITES=1; and objects that keep each other alive.",
    )
    _add_address(parser)
    parser.add_argument("--limit", type=_positive, default=100, metavar="N", help="so many rows")
    keys = ("size", "type", "state", "site", "holder")
    parser.add_argument("--sort-by", choices=keys, default="size", help="default: size")
    parser.add_argument("--group-by", choices=keys[1:], help="a row for all that have it in common")
    parser.add_argument("--json", action="store_true", help="print one JSON object with everything")
    parser.set_defaults(run=_memory)


def _memory(args: argparse.Namespace) -> int:
    from plasmid import sessions

    report = sessions.memory(args.address)
    if args.json:
        import json

        print(json.dumps(report))
        return 0
    from plasmid import _tables
    from plasmid.engine import memory

    print(memory.summary(report), end="\n\n")
    if args.group_by:
        _tables.show(*memory.groups(report, args.limit, args.group_by))
        return 0
    _tables.show(*memory.table(report, args.limit, args.sort_by))
    for line in memory.notes(report, args.limit):
        print(line)
    return 0


def _add_stack(commands: _Commands) -> None:
    parser = commands.add_parser(
        "stack",
        help="show the Python stacks of a session's workers, stuck ones too",
        description="Print the stacks of all threads of all workers of a running session.",
    )
    _add_address(parser)
    parser.add_argument(
        "--timeout", type=float, default=5.0, metavar="SECONDS", help="for those that do not answer"
    )
    parser.set_defaults(run=_stack)


def _stack(args: argparse.Namespace) -> int:
    from plasmid import sessions

    print(sessions.stacks(args.address, args.timeout))
    return 0


def _add_tasks(commands: _Commands) -> None:
    parser = commands.add_parser(
        "tasks",
        help="show what runs, what waits, and what for, and what became of the latest tasks",
        description="List the tasks of a running session: those that have not ended, then the "
        "latest that have.",
    )
    _add_listing(parser, "tasks")
    parser.set_defaults(run=_tasks)


def _tasks(args: argparse.Namespace) -> int:
    from plasmid import sessions
    from plasmid.engine import history

    return _show(sessions.tasks(args.address), history, args)


def _show(records: list[dict[str, Any]], kind: Any, args: argparse.Namespace) -> int:
    """Print records: as JSON, or as the module of their kind sums them up and tables them."""
    if args.json:
        import json

        print(json.dumps(records))
        return 0
    from plasmid import _tables

    print(kind.summary(records), end="\n\n")
    _tables.show(*kind.table(records, args.limit))
    return 0


def _add_actors(commands: _Commands) -> None:
    parser = commands.add_parser(
        "actors",
        help="show the actors that live, where, and how many calls wait for them",
        description="List the actors of a running session, those with the most calls first.",
    )
    _add_listing(parser, "actors")
    parser.set_defaults(run=_actors)


def _actors(args: argparse.Namespace) -> int:
    from plasmid import sessions
    from plasmid.engine import roster

    return _show(sessions.actors(args.address), roster, args)


def _add_timeline(commands: _Commands) -> None:
    parser = commands.add_parser(
        "timeline",
        help="write a trace of the latest tasks, for chrome://tracing or ui.perfetto.dev",
        description="Write the trace of a running session's tasks to FILE.",
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    _add_address(parser)
    parser.set_defaults(run=_timeline)


def _timeline(args: argparse.Namespace) -> int:
    import json

    from plasmid import sessions

    args.file.write_text(json.dumps(sessions.timeline(args.address)))
    return 0


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--address", default="auto", metavar="ADDRESS", help="default: any session")


def _add_listing(parser: argparse.ArgumentParser, kind: str) -> None:
    _add_address(parser)
    parser.add_argument("--limit", type=_positive, default=100, metavar="N", help=f"so many {kind}")
    parser.add_argument("--json", action="store_true", help="print one JSON list with everything")


def _positive(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def _whole(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is negative")
    return number


def _resources(text: str) -> dict[str, float]:
    import json

    from plasmid.options import check_resources

    try:
        found = json.loads(text)
        check_resources("--resources", found)
    except (ValueError, TypeError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return found  # type: ignore[no-any-return]


_COMMANDS: tuple[Callable[[_Commands], None], ...] = (
    _add_demo,
    _add_start,
    _add_stop,
    _add_status,
    _add_memory,
    _add_stack,
    _add_tasks,
    _add_actors,
    _add_timeline,
)
