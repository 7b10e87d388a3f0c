"""How a command speaks to Tidepool: by the one connection that it was given, never by a secret argument."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from upath import UPath

from tidepool_ingest.auth_modes import AUTH_MODES
from tidepool_ingest.cli.arguments import LEDGER_VARIABLE, CommandError, at_home
from tidepool_ingest.cli.given import about
from tidepool_ingest.client import (
    ClientSettings,
    TidepoolClient,
    connect,
    environment,
    host_of,
)
from tidepool_ingest.client.connections import (
    OWN_CONNECTIONS,
    settings_from_environment,
    settings_from_file,
)
from tidepool_ingest.ledger import Ledger
from tidepool_ingest.ledger.client_state import LedgerRefreshTokens
from tidepool_ingest.ledger.database import LedgerUnavailableError
from tidepool_ingest.privacy import short_hash
from tidepool_ingest.staging.encryption import KEYS_VARIABLE, configured_keys, decrypt, encrypt
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.upload import UploadContext


class CommandConnection:
    """The connection that a command was given.

    :param file: what ``--connection`` names; the environment variable holds it if not given.
    :raises TidepoolConfigurationError: there is none, or it cannot be used.
    :raises CommandError: ``refresh-token``: it has one, and no key to keep its successors with.
    """

    def __init__(self, file: str | None) -> None:
        with about(file or ""):
            self.settings: ClientSettings = (
                settings_from_environment() if file is None else settings_from_file(at_home(file))
            )
        self.api_host = host_of(environment(self.settings.environment).api)
        # One file, or one person's environment, has one login at a time.
        self._name = f"command line {short_hash(os.path.realpath(file))}" if file else "command line"
        if self.shares_refresh_token and not configured_keys():
            raise CommandError(
                "The connection signs in by a refresh token, and there is no key to encrypt the next one.",
                f"Set {KEYS_VARIABLE} to a Fernet key, the same for every command with this ledger "
                "(docs/deployment.md says how to make one); or use a connection with another auth mode.",
                "refresh-token",
            )

    @property
    def shares_refresh_token(self) -> bool:
        """Whether it signs in by a refresh token, whose successors the ledger keeps."""
        return AUTH_MODES[self.settings.auth_mode].shares_refresh_token

    def api_host_of(self, named: str | None) -> str:
        """Return the API host that a batch goes to.

        :param named: the connection that its manifest names, if any.
        :raises BatchError: ``connection-not-allowed``.
        """
        if named not in OWN_CONNECTIONS:
            raise BatchError("connection-not-allowed")
        return self.api_host

    def client(self, ledger: Ledger | None = None) -> TidepoolClient:
        """Return a client, which signs in before its first request.

        :param ledger: keeps what replaces a refresh token.
        :raises CommandError: ``refresh-token``: it has one, and there is no ledger.
        """
        store = None
        if self.shares_refresh_token:
            if ledger is None:
                raise CommandError(
                    "The connection signs in by a refresh token, and no ledger keeps its successors.",
                    f"Give --ledger, or set {LEDGER_VARIABLE}.",
                    "refresh-token",
                )
            seed = self.settings.refresh_token.get_secret_value()
            store = LedgerRefreshTokens(
                ledger.database, self._name, seed=seed, encrypt=_encrypted, decrypt=_decrypted
            )
        return connect(self.settings, refresh_tokens=store)

    def context(self, client: TidepoolClient, ledger: Ledger, root: UPath) -> UploadContext:
        """Return what operations on batches work with.

        :param client: as :meth:`client` returns it.
        :param ledger: records each step.
        :param root: the staging root.
        """
        from tidepool_ingest.prepare.step import rebuild_work_area

        return UploadContext(
            client=client, ledger=ledger, settings=self.settings, root=root, rebuild=rebuild_work_area
        )


@contextmanager
def migrated(address: str) -> Iterator[Ledger]:
    """Open the ledger for the length of a ``with`` block, its tables created or migrated to this version.

    :param address: the ledger's address.
    """
    ledger = Ledger(address)
    try:
        try:
            ledger.migrate()
        except LedgerUnavailableError as error:
            raise CommandError(error.what, f"Check --ledger or ${LEDGER_VARIABLE}.", error.code) from None
        yield ledger
    finally:
        ledger.close()


def _encrypted(token: str) -> str:
    return encrypt(token.encode()).decode().rstrip("\n")


def _decrypted(encrypted: str) -> str:
    try:
        return decrypt(encrypted.encode()).decode()
    except BatchError as error:
        if error.code != "work-area-sealed":
            raise
        raise CommandError(
            f"The ledger's refresh token was encrypted with a key that {KEYS_VARIABLE} does not hold.",
            f"Add that key at the end of {KEYS_VARIABLE} (tasks use Airflow's Fernet key); or sign in once "
            "more, for the command line alone, and put the new refresh token into its connection.",
            "refresh-token",
        ) from None
