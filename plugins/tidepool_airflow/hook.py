"""Tidepool behind an Airflow connection: its fields as settings, the hook, and the connections of one DAG."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.crypto import get_fernet
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret
from cryptography.fernet import InvalidToken

from tidepool_airflow.settings import DEFAULT_CONN_ID, DEFAULT_LEDGER_CONN_ID, open_ledger
from tidepool_ingest.auth_modes import AUTH_MODES
from tidepool_ingest.client import (
    ClientSettings,
    TidepoolClient,
    connect,
    environment,
    host_of,
)
from tidepool_ingest.client.connections import client_settings
from tidepool_ingest.client.errors import TidepoolConfigurationError
from tidepool_ingest.errors import IngestError
from tidepool_ingest.ledger.client_state import LedgerRefreshTokens
from tidepool_ingest.ledger.database import LedgerConfigurationError
from tidepool_ingest.privacy import short_hash
from tidepool_ingest.staging.encryption import configured_keys
from tidepool_ingest.staging.encryption import decrypt as decrypt_with_work_keys
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.upload import (
    Feed,
    UploadContext,
    check_not_continuous,
    continuous_data_set,
    data_set_body,
)

if TYPE_CHECKING:
    from upath import UPath

    from tidepool_ingest.client import DataSet
    from tidepool_ingest.ledger import Ledger


class TidepoolHook(BaseHook):
    """Talk to Tidepool with the account of an Airflow connection.

    Each step of a data set's life is a method that a DAG of your own can use: :meth:`open_data_set`,
    :meth:`upload_data`, :meth:`close_data_set`, :meth:`read_data`; :meth:`continuous_data_set` finds or opens
    a continuous data set. With :meth:`upload_context`, :func:`tidepool_ingest.upload.upload_batch` does it
    all for a prepared batch, and resumes from the ledger.

    Errors are the library's (:mod:`tidepool_ingest.client.errors`), from which
    :class:`~tidepool_airflow.retry.TidepoolRetryPolicy` knows what to retry. Every token is masked in the
    logs before its first use.

    :param tidepool_conn_id: the Airflow connection, of type ``tidepool``.
    :param ledger_conn_id: the connection to the ledger, which stores rotated refresh tokens.
    """

    conn_name_attr = "tidepool_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "tidepool"
    hook_name = "Tidepool"

    def __init__(
        self, tidepool_conn_id: str = default_conn_name, *, ledger_conn_id: str = DEFAULT_LEDGER_CONN_ID
    ) -> None:
        super().__init__()
        self.tidepool_conn_id = tidepool_conn_id
        self.ledger_conn_id = ledger_conn_id

    @cached_property
    def settings(self) -> ClientSettings:
        """The connection's fields as settings of the client.

        :raises TidepoolConfigurationError: naming the fields to correct.
        """
        try:
            connection = self.get_connection(self.tidepool_conn_id)
        except AirflowNotFoundException:
            raise TidepoolConfigurationError(
                f"use the Tidepool connection `{self.tidepool_conn_id}`",
                reason="Airflow has no connection of that id",
                remedy="Create it, with the connection type Tidepool. If it is in the environment or a "
                "secrets backend, correct it there: Airflow passes over what it cannot read.",
            ) from None
        return client_settings(connection)

    @cached_property
    def client(self) -> TidepoolClient:
        """The client, created on first use, so that a DAG file can hold a hook without any connection."""
        settings = self.settings
        store = None
        if AUTH_MODES[settings.auth_mode].shares_refresh_token:
            seed = settings.refresh_token.get_secret_value()
            encrypt, decrypt = _encryption()
            database = open_ledger(self.ledger_conn_id).database
            store = LedgerRefreshTokens(
                database, self.tidepool_conn_id, seed=seed, encrypt=encrypt, decrypt=decrypt
            )
        return connect(settings, refresh_tokens=store, on_token=mask_secret)

    def get_conn(self) -> TidepoolClient:
        """Return the client."""
        return self.client

    @property
    def api_host(self) -> str:
        """Host (and port) of the API, by which the ledger distinguishes Tidepool's servers."""
        return host_of(environment(self.settings.environment).api)

    def data_set_url(self, data_set_id: str) -> str:
        """Return the API's URL of a data set, which shows it to its owner."""
        return f"{environment(self.settings.environment).api}/v1/data_sets/{data_set_id}"

    # ---------------------------------------------------------------- one data set, step by step

    def open_data_set(self, user_id: str, body: Mapping[str, Any]) -> DataSet:
        """Open a data set; client and deduplicator are filled in if the body names none.

        :param user_id: the Tidepool user whose data it will hold.
        :param body: device, client and deduplicator, as Tidepool's documentation describes them.
        """
        return self.client.open_data_set(user_id, data_set_body(body, self.settings))

    def upload_data(self, data_set_id: str, records: bytes) -> None:
        """Add records to an open data set.

        :param data_set_id: the data set.
        :param records: a JSON array as UTF-8 text, up to 1,000 records.
        """
        self.client.upload_data(data_set_id, records)

    def delete_data(self, data_set_id: str, selectors: Sequence[Mapping[str, Any]]) -> None:
        """Remove records from an open data set.

        :param data_set_id: the data set.
        :param selectors: ``{"id": …}`` each, or ``{"origin": {"id": …}}`` each.
        """
        self.client.delete_data(data_set_id, selectors)

    def continuous_data_set(self, user_id: str, body: Mapping[str, Any]) -> str:
        """Return the id of a client's continuous data set for a user, found by the client name or opened.

        However many callers there are at once, there is one data set: the ledger keeps its id.

        :param user_id: the Tidepool user whose data it holds.
        :param body: as for :meth:`open_data_set`; a client name in it overrides the connection's.
        :raises FeedError: if it cannot be used, or it is not certain which data set it is.
        """
        filled_in = data_set_body({**body, "dataSetType": "continuous"}, self.settings)
        with closing(open_ledger(self.ledger_conn_id)) as ledger:
            feed = Feed(self.api_host, user_id, filled_in)
            return continuous_data_set(self.upload_context(ledger), feed)

    def close_data_set(self, data_set_id: str) -> None:
        """Close a normal data set: its records become visible, and older duplicates of them are archived.

        :param data_set_id: the data set.
        :raises FeedError: if it is a continuous one, which is never closed.
        """
        with closing(open_ledger(self.ledger_conn_id)) as ledger:
            check_not_continuous(self.client, ledger, data_set_id)
        self.client.close_data_set(data_set_id)

    def delete_data_set(self, data_set_id: str) -> None:
        """Delete a data set with all its records.

        :param data_set_id: the data set.
        """
        self.client.delete_data_set(data_set_id)

    def read_data(self, user_id: str, *, data_set_id: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield the records that are visible in Tidepool.

        :param user_id: the Tidepool user.
        :param data_set_id: only the records of this data set.
        """
        return self.client.read_data(user_id, data_set_id=data_set_id)

    # ---------------------------------------------------------------- a whole batch

    def upload_context(self, ledger: Ledger, root: UPath | None = None) -> UploadContext:
        """Return what the library needs to work on whole batches of this connection.

        ``upload_batch(hook.upload_context(ledger, root), batch)`` opens, uploads, closes and verifies a
        prepared batch, from wherever the batch is according to the ledger; ``stop()`` of the context lets it
        end early. ``reverify`` and ``withdraw_batch`` work alike; see :mod:`tidepool_ingest.upload`. Use
        :func:`dataclasses.replace` to set what the context leaves at its defaults.

        :param ledger: records each step.
        :param root: the staging root, which holds the work areas; a withdrawal needs none.
        """
        from tidepool_ingest.prepare.step import rebuild_work_area

        return UploadContext(
            client=self.client, ledger=ledger, settings=self.settings, root=root, rebuild=rebuild_work_area
        )

    def test_connection(self) -> tuple[bool, str]:
        """Sign in, and look up whom the account may upload for: the button Test of the connection form."""
        try:
            account = self.client.who_am_i()
            others = self.client.uploads_for()
        except IngestError as error:
            return False, str(error)
        return True, (
            f"Signed in at {self.api_host} as user {short_hash(account)}. It may upload for itself; other "
            f"users who granted it uploading: {len(others)} (patients of a clinic are not counted)."
        )


def _encryption() -> tuple[Callable[[str], str], Callable[[str], str]]:
    """Return how a refresh token is encrypted for the ledger and decrypted again."""
    fernet = get_fernet()
    if not fernet.is_encrypted:
        raise LedgerConfigurationError(
            "Airflow has no Fernet key, so a refresh token cannot be kept safely in the ledger.",
            "Set AIRFLOW__CORE__FERNET_KEY to the same key for all components.",
        )

    def encrypt(token: str) -> str:
        return fernet.encrypt(token.encode()).decode()

    def decrypt(encrypted: str) -> str:
        try:
            return fernet.decrypt(encrypted.encode()).decode()
        except InvalidToken:
            pass
        with suppress(BatchError):
            # A command that uses the same connection keeps what it is given with these keys.
            if configured_keys():
                return decrypt_with_work_keys(encrypted.encode()).decode()
        raise LedgerConfigurationError(
            "The ledger's refresh token was encrypted with another Fernet key than Airflow has now.",
            "Set AIRFLOW__CORE__FERNET_KEY to both keys, the new one first (new,old); or sign in again "
            "and put the new refresh token into the Tidepool connection.",
        )

    return encrypt, decrypt


class TidepoolConnections:
    """The connections to Tidepool of one DAG.

    :param own: the DAG's own connection.
    :param allowed: further connections that a manifest may name.
    :param ledger_conn_id: the connection to the ledger, which stores rotated refresh tokens.
    """

    def __init__(self, own: str, allowed: Sequence[str], ledger_conn_id: str) -> None:
        self._own = own
        self._allowed = (own, *allowed)
        self._ledger_conn_id = ledger_conn_id
        self._hosts: dict[str, str] = {}
        self._hooks: dict[str, TidepoolHook] = {}

    def hook(self, named: str | None) -> TidepoolHook:
        """Return the hook for a batch; batches with the same connection share the hook and its client.

        :param named: the connection that its manifest names, if any.
        :raises BatchError: ``connection-not-allowed``.
        """
        conn_id = named or self._own
        if conn_id not in self._allowed:
            raise BatchError("connection-not-allowed")
        if conn_id not in self._hooks:
            self._hooks[conn_id] = TidepoolHook(conn_id, ledger_conn_id=self._ledger_conn_id)
        return self._hooks[conn_id]

    def api_host_of(self, named: str | None) -> str:
        """Return the API host that a batch goes to.

        :param named: the connection that its manifest names, if any.
        :raises BatchError: ``connection-not-allowed``.
        """
        conn_id = named or self._own
        if conn_id not in self._hosts:
            self._hosts[conn_id] = self.hook(named).api_host
        return self._hosts[conn_id]
