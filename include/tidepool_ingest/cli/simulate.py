"""``tidepool-ingest simulate``: a simulated Tidepool to practise with."""

from __future__ import annotations

import argparse
import errno
import sqlite3
from pathlib import Path

from tidepool_ingest.cli.arguments import CommandError, port, seconds

_TAKEN = (errno.EADDRINUSE, errno.EACCES)


def describe(command: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    command.description = (
        "Run a server on loopback that behaves like Tidepool, pitfalls included, until SIGTERM or Ctrl-C. "
        "It prints its address; no data leave this machine."
    )
    command.add_argument("--port", type=port, default=0, help="port to listen on (default: any free one)")
    command.add_argument(
        "--store", type=Path, metavar="FILE", help="SQLite file that holds its state (default: memory)"
    )
    command.add_argument(
        "--accounts",
        type=Path,
        metavar="FILE",
        help="JSON file with users, clients and grants in addition to its three roles",
    )
    command.add_argument(
        "--write-roles",
        type=Path,
        metavar="FILE",
        help="once listening, write base_url, ids and tokens of owner, uploader and stranger to this file",
    )
    command.add_argument(
        "--token-lifetime", type=seconds, metavar="SECONDS", help="how long an access token is valid"
    )
    command.add_argument(
        "--rotate-refresh-tokens", action="store_true", help="each refresh token can be used only once"
    )
    command.add_argument(
        "--latency",
        type=seconds,
        default=0.0,
        metavar="SECONDS",
        help="minimum duration of every request",
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until the process is told to stop."""
    # Here, because no other command needs to load a server.
    from tidepool_simulator import serve
    from tidepool_simulator.accounts import AccountError

    if options.write_roles and not options.write_roles.parent.is_dir():
        raise CommandError("The folder of --write-roles does not exist.", "Create it, or name another file.")
    try:
        return serve(
            port=options.port,
            store=options.store,
            accounts=options.accounts,
            write_roles=options.write_roles,
            token_lifetime=options.token_lifetime,
            rotate_refresh_tokens=options.rotate_refresh_tokens,
            latency=options.latency,
        )
    except AccountError as error:
        what = str(error).removesuffix("; correct the file")
        raise CommandError(
            f"The accounts cannot be used: {what}.", "Correct the file of --accounts.", "accounts-malformed"
        ) from None
    except sqlite3.Error:
        raise CommandError(
            "The file of --store cannot be used.",
            "Name a new file in a folder that exists, or one that the simulator has written.",
            "store-unusable",
        ) from None
    except OSError as error:
        if error.errno not in _TAKEN or error.filename is not None:
            raise
        raise CommandError(
            f"Port {options.port} is taken, or this account may not use it.",
            "Choose another one, or leave out --port for any free one.",
            "port-taken",
        ) from None
