"""The command line, ``tidepool-ingest``: one module for each command."""

from __future__ import annotations

import argparse
import atexit
import codecs
import gc
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from tidepool_ingest import __version__
from tidepool_ingest.errors import IngestError

FAILED = 1
"""Exit code if something was refused or has failed."""

USAGE_ERROR = 2
"""Exit code if the command was used in a way that cannot be carried out; nothing was done."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

EXIT_CODES = (
    "Exit codes: 0 all went well, 1 something was refused or has failed (a record, a file, a batch, the "
    "storage, the ledger, Tidepool), 2 wrong use: nothing was done."
)
"""What ``--help`` of every command ends with."""

WRONG_USE = frozenset(
    {
        "arguments",
        "batch-folder",
        "file-missing",
        "ledger-configuration",
        "params",
        "refresh-token",
        "stage-arguments",
        "staging-root-address",
        "staging-root-missing",
        "staging-unreachable",
        "tidepool-configuration",
        "work-keys",
    }
)
"""Codes of errors that say that what was typed, or set in the environment, cannot be meant."""

_NOT_THERE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)

_SHOWN_ANYHOW = "tidepool_ingest_shown"
"""Name of the handler of what an output's encoding lacks."""

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

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments; what a command does not know is its error, and not that of all commands."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: {message}. See: {self.prog} --help\n")


def parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command line.

    :param chosen: the command to parse arguments of: no other one is known, and only its module is imported.
        All of them are known, and none imported, where it is none of them.
    """
    root = _Parser(
        prog="tidepool-ingest",
        description="Move staged diabetes device data into the Tidepool Platform.",
        epilog=f"{EXIT_CODES} An error is one line on standard error.",
    )
    root.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in (chosen,) if chosen in COMMANDS else COMMANDS:
        command = commands.add_parser(name, help=COMMANDS[name])
        command.epilog = EXIT_CODES
        if name == chosen:
            import_module(f"{__name__}.{name}").describe(command)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    :param arguments: the command line; that of the process if not given.
    :return: the exit code; an error is told in one line on standard error.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    # What stands before a command is of all of them, such as --help.
    chosen = words[0] if words else None
    _show_anything()
    if arguments is None:
        _look_for_no_plugins()
    try:
        with _no_garbage():
            options = parser(chosen).parse_args(words)
        if arguments is None:
            _leave_modules_alone()
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except IngestError as error:
        print_error(error)
        return code_of(error)
    except BrokenPipeError:
        # We were piped into something like `head`, which closed early; the rest must not be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        _print_line(f"{error.strerror or type(error).__name__}{where}")
        return USAGE_ERROR if isinstance(error, _NOT_THERE) else FAILED


def code_of(error: IngestError) -> int:
    """Return the exit code of a command that an error has ended.

    :param error: the error.
    """
    is_of_batch = getattr(error, "file_number", None) is not None
    return USAGE_ERROR if error.code in WRONG_USE and not is_of_batch else FAILED


def print_error(error: IngestError) -> None:
    """Tell an error on standard error, in one line, with the file or folder as it was typed.

    What may quote the file is told on a terminal only: a file that takes standard error may be a log.

    :param error: the error.
    """
    # Loaded only here, where nothing is in a hurry any more.
    from tidepool_ingest.cli.terminal import printable

    own = f" {printable(error.on_terminal)}" if error.on_terminal and sys.stderr.isatty() else ""
    _print_line(f"{f'{printable(error.typed)}: ' if error.typed else ''}{error}{own}")


def _show_anything() -> None:
    """Let no command fail because of a sign that the outputs' encoding lacks: it is spelt out instead.

    Nor because an output is closed, as some daemons leave it.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
    codecs.register_error(_SHOWN_ANYHOW, _spelt_out)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_SHOWN_ANYHOW)


def _spelt_out(error: UnicodeError) -> tuple[str | bytes, int]:
    r"""Return bytes of a file's name as they are, and other signs as ``\xe9`` or ``\u202e``."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


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


def _look_for_no_plugins() -> None:
    """Let pydantic look for no plugins of its own: it asks each installed package, which takes long.

    One of them could record what is validated, too, and a manifest names people. Who wants them sets the
    variable to nothing.
    """
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def _leave_modules_alone() -> None:
    """Do not look for garbage in what was loaded, now and when the process ends, which would take long."""
    gc.freeze()
    atexit.register(gc.freeze)


def _print_line(line: str) -> None:
    print(f"tidepool-ingest: {line}", file=sys.stderr)
