"""The command line, ``tidepool-ingest``: one module for each command."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn

from tidepool_ingest import __version__
from tidepool_ingest.errors import IngestError

USAGE_ERROR = 2
"""Exit code of every error that is reported in one clear line."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

COMMANDS = {
    "inspect": "say what data files are, and what would become of them",
    "validate": "report which records Tidepool would reject, and why",
    "convert": "write the records that a file's rows stand for, as NDJSON",
    "stage": "turn a data file into ready batches",
    "upload": "upload staged batches and verify them, without Airflow",
    "people": "list whom the account may upload for, and who is missing",
    "retract": "stage a batch that retracts another one of its feed",
    "simulate": "run a simulated Tidepool on this machine",
    "sessions": "show the ledger: batches, their data sets and their states",
    "inactive": "show devices that have stopped sending data",
    "cleanup": "empty the work areas of batches that finished long ago",
    "ledger": "fill a lost ledger, or lift a throttle that it holds",
    "erase": "remove a person from the ledger, staging and work areas",
}
"""The commands, each a module of this package, with their help."""


class _Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line and takes no abbreviated options."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: {message}. See: {self.prog} --help\n")


def parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command line.

    :param chosen: the command to parse arguments of; only its module is imported.
    """
    root = _Parser(
        prog="tidepool-ingest",
        description="Move staged diabetes device data into the Tidepool Platform.",
        epilog="Exit codes: 0 success, 1 records are rejected (inspect, validate) or a file is held or "
        "cannot be read (inspect, convert), 2 an error, reported in one line.",
    )
    root.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if name == chosen:
            import_module(f"{__name__}.{name}").describe(command)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    :param arguments: the command line; that of the process if not given.
    :return: 0, 1 if a command says so, or 2 with one line on standard error.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    chosen = next((word for word in words if not word.startswith("-")), None)
    try:
        with _no_garbage():
            options = parser(chosen).parse_args(words)
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except IngestError as error:
        _print_error(str(error))
    except BrokenPipeError:
        # We were piped into something like `head`, which closed early; the rest must not be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        _print_error(f"{error.strerror or type(error).__name__}{where}")
    return USAGE_ERROR


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Do not look for garbage while modules are loaded: there is none, and it takes a tenth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _print_error(line: str) -> None:
    print(f"tidepool-ingest: {line}", file=sys.stderr)
