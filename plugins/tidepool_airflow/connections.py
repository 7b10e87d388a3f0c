"""Which connections to Tidepool a DAG may use: its own, and those it lets a batch's manifest name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tidepool_ingest.staging.errors import BatchError

if TYPE_CHECKING:
    from tidepool_airflow.hook import TidepoolHook


class TidepoolConnections:
    """The connections to Tidepool of one DAG.

    :param own: the DAG's own connection.
    :param allowed: further ones that a manifest may name.
    :param ledger_conn_id: the ledger, which keeps rotated refresh tokens.
    """

    def __init__(self, own: str, allowed: Sequence[str], ledger_conn_id: str) -> None:
        self._own = own
        self._allowed = (own, *allowed)
        self._ledger_conn_id = ledger_conn_id
        self._hosts: dict[str, str] = {}
        self._hooks: dict[str, TidepoolHook] = {}

    def hook(self, named: str | None) -> TidepoolHook:
        """Return the hook for a batch; batches of one connection share it, and its client.

        :param named: the connection that its manifest names, if any.
        :raises BatchError: ``connection-not-allowed``.
        """
        from tidepool_airflow.hook import TidepoolHook

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
