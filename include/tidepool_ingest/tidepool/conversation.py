"""Requests in the name of an account: with a token, with patience where that is safe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from tidepool_ingest.tidepool.answers import CANNOT_VIEW, Answer, Call
from tidepool_ingest.tidepool.backoff import BackOff
from tidepool_ingest.tidepool.errors import TidepoolAuthenticationError, TidepoolPermissionError
from tidepool_ingest.tidepool.exchange import Exchange, Timeouts
from tidepool_ingest.tidepool.tokens import SESSION_TOKEN_HEADER, TokenSource
from tidepool_ingest.tidepool.transport import Transport

Result = TypeVar("Result")


class Conversation:
    """Send requests with a token, renewing it once when it is refused.

    :param transport: sends the requests.
    :param tokens: where tokens come from.
    :param backoff: patience with requests that change nothing.
    """

    def __init__(self, transport: Transport, tokens: TokenSource, backoff: BackOff) -> None:
        self._transport = transport
        self._tokens = tokens
        self._backoff = backoff

    def read(self, call: Call) -> Answer:
        """Return the answer to a request that changes nothing, trying again for a short while.

        :param call: the request.
        """
        return self._with_token(
            lambda headers: self._backoff(lambda: self._transport.exchange(call, headers=headers))
        )

    def write(self, call: Call) -> Answer:
        """Return the answer to a request that changes something, which is sent once.

        After a 401 it is sent once more: that answer is given before anything is done.

        :param call: the request.
        """
        return self._with_token(lambda headers: self._transport.exchange(call, headers=headers))

    def stream(self, call: Call, timeouts: Timeouts) -> Exchange:
        """Return the successful answer to a request that changes nothing, its body still to be read.

        Only the beginning is tried again; what breaks off later is the caller's to begin anew.

        :param call: the request.
        :param timeouts: bounds for this one.
        """

        def begun(headers: Mapping[str, str]) -> Exchange:
            exchange = self._transport.open(call, headers=headers, timeouts=timeouts)
            if not exchange.successful:
                with exchange:
                    exchange.answer()
            return exchange

        return self._with_token(lambda headers: self._backoff(lambda: begun(headers)))

    def _with_token(self, attempt: Callable[[Mapping[str, str]], Result]) -> Result:
        token = self._tokens.token()
        try:
            return attempt({SESSION_TOKEN_HEADER: token})
        except TidepoolAuthenticationError:
            another = self._tokens.renew(token)
        except TidepoolPermissionError as refusal:
            # The read-back answers 403 for an ended token as well as for a missing permission.
            if CANNOT_VIEW not in refusal.codes:
                raise
            another = self._renewed(token, refusal)
        return attempt({SESSION_TOKEN_HEADER: another})

    def _renewed(self, token: str, refusal: TidepoolPermissionError) -> str:
        try:
            return self._tokens.renew(token)
        except TidepoolAuthenticationError:
            raise refusal from None
