"""The client: one method for each kind of request to Tidepool, sent with a token."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, overload

import requests

from tidepool_ingest.client.auth import SignIn, token_source
from tidepool_ingest.client.backoff import BackOff
from tidepool_ingest.client.endpoints import DATA_SET_ID_PATTERN, USER_ID_PATTERN, Endpoints
from tidepool_ingest.client.environments import checked_base, environment
from tidepool_ingest.client.errors import (
    TidepoolAuthenticationError,
    TidepoolDataSetClosedError,
    TidepoolError,
    TidepoolPermissionError,
    TidepoolUnreachableError,
)
from tidepool_ingest.client.exchange import new_session
from tidepool_ingest.client.json_stream import Fields, MalformedArrayError, blocks_of, objects_of
from tidepool_ingest.client.responses import CANNOT_VIEW, Request, Response
from tidepool_ingest.client.settings import ClientSettings
from tidepool_ingest.client.tokens import (
    SESSION_TOKEN_HEADER,
    MemoryRefreshTokenStore,
    RefreshTokenStore,
    TokenSource,
    TokenWatcher,
)
from tidepool_ingest.client.transport import (
    LONGEST_PAUSE_SECONDS,
    HttpTimeouts,
    StreamingResponse,
    Transport,
    place_of,
    unusable_response,
)


@dataclass(frozen=True)
class DataSet:
    """One data set, from a response about it or from its own record in a read-back.

    :param data_set_id: the id by which it is addressed.
    :param id: its record's id, the same unless a client chose otherwise.
    :param data_set_type: ``normal`` or ``continuous``.
    :param deduplicator: full name of its deduplicator, empty if the response names none.
    :param device_id: the device, empty if the response names none.
    :param client_name: reverse DNS name of the program that created it, empty if the response names none.
    :param created_time: when the Platform stored it; a read-back does not say.
    :param modified_time: when the Platform last changed it, as its close does; a read-back does not say.
    :param deleted: whether it has been deleted.
    :param state: ``open`` or ``closed``; only a read-back says.
    :param private: what the program that created it keeps with it (``client.private``).
    """

    data_set_id: str
    id: str
    data_set_type: str
    deduplicator: str = ""
    device_id: str = field(default="", repr=False)
    client_name: str = ""
    created_time: datetime | None = None
    modified_time: datetime | None = None
    deleted: bool = False
    state: str = ""
    private: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)

    @classmethod
    def parse(cls, payload: Any) -> DataSet | None:
        """Return the data set that a decoded response describes, ``None`` if it describes none.

        :param payload: the object in question.
        """
        if not isinstance(payload, dict):
            return None
        data_set_id = _text(payload, "uploadId")
        try:
            created_time, modified_time = (
                datetime.fromisoformat(text) if text else None
                for text in (_text(payload, "createdTime"), _text(payload, "modifiedTime"))
            )
        except ValueError:
            return None
        if not data_set_id:
            return None
        return cls(
            data_set_id=data_set_id,
            id=_text(payload, "id") or data_set_id,
            data_set_type=_text(payload, "dataSetType") or "normal",
            deduplicator=_text(payload, "deduplicator", "name") or _text(payload, "_deduplicator", "name"),
            device_id=_text(payload, "deviceId"),
            client_name=_text(payload, "client", "name"),
            created_time=created_time,
            modified_time=modified_time,
            deleted=bool(payload.get("deletedTime")),
            state=_text(payload, "_state"),
            private=_object(payload, "client", "private"),
        )


def _text(payload: Mapping[str, Any], *path: str) -> str:
    value = _inside(payload, path)
    return value if isinstance(value, str) else ""


def _object(payload: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    value = _inside(payload, path)
    return value if isinstance(value, Mapping) else {}


def _inside(payload: Mapping[str, Any], path: Sequence[str]) -> Any:
    value: Any = payload
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


Result = TypeVar("Result")
Decoded = TypeVar("Decoded")


class AuthenticatedTransport:
    """Send requests with a token, renewing it once when it is rejected.

    :param transport: sends the requests.
    :param tokens: where tokens come from.
    :param backoff: retries of requests that change nothing.
    """

    def __init__(self, transport: Transport, tokens: TokenSource, backoff: BackOff) -> None:
        self._transport = transport
        self._tokens = tokens
        self._backoff = backoff

    def read(self, request: Request) -> Response:
        """Return the response to a request that changes nothing, trying again for a short while.

        :param request: the request.
        """
        return self._with_token(
            lambda headers: self._backoff(lambda: self._transport.request(request, headers=headers))
        )

    def write(self, request: Request) -> Response:
        """Return the response to a request that changes something, which is sent once.

        After a 401 it is sent once more: Tidepool gives that response before it does anything.

        :param request: the request.
        """
        return self._with_token(lambda headers: self._transport.request(request, headers=headers))

    def stream(self, request: Request, timeouts: HttpTimeouts) -> StreamingResponse:
        """Return the successful response to a request that changes nothing, its body still to be read.

        Only the start is retried; what breaks off later, the caller has to start again.

        :param request: the request.
        :param timeouts: bounds for this one.
        """

        def opened(headers: Mapping[str, str]) -> StreamingResponse:
            response = self._transport.open(request, headers=headers, timeouts=timeouts)
            if not response.successful:
                with response:
                    response.read()
            return response

        return self._with_token(lambda headers: self._backoff(lambda: opened(headers)))

    def _with_token(self, attempt: Callable[[Mapping[str, str]], Result]) -> Result:
        token = self._tokens.token()
        try:
            return attempt({SESSION_TOKEN_HEADER: token})
        except TidepoolAuthenticationError:
            renewed = self._tokens.renew(token)
        except TidepoolPermissionError as error:
            # The read-back answers 403 for an expired token as well as for a missing permission.
            if CANNOT_VIEW not in error.codes:
                raise
            renewed = self._renewed(token, error)
        return attempt({SESSION_TOKEN_HEADER: renewed})

    def _renewed(self, token: str, error: TidepoolPermissionError) -> str:
        try:
            return self._tokens.renew(token)
        except TidepoolAuthenticationError:
            raise error from None


DATA_SETS_PER_PAGE = 100
"""The Platform's own default; it allows 1 … 1,000."""

READ_BACK_TIMEOUTS = HttpTimeouts(connect=10.0, read=190.0, total=1800.0)
"""A read-back may take its server's three minutes to start, and be hundreds of megabytes long."""


class TidepoolClient:
    """Speak to one Tidepool environment with one account.

    Requests that change something are sent once. If it is not known whether one was carried out, a
    :class:`TidepoolUnreachableError` with ``in_doubt`` set says so, and the caller has to read back. The one
    exception is a 401, which Tidepool gives before it does anything: the token is renewed and the
    request sent once more. Requests that change nothing are tried again for a short while. Several threads
    may use a client at once.

    :param api: base URL of the API.
    :param tokens: where tokens come from.
    :param connect_timeout: seconds to wait for a connection.
    :param read_timeout: seconds to wait for the first piece of a response, and between two pieces.
    :param total_timeout: seconds that one exchange may take as a whole.
    :param session: carries the requests; made by :func:`new_session` if left out.
    :param on_token: called with every token before its use, so that it can be masked in logs.
    :param trace_session: ties the requests of one run together in Tidepool's logs; nothing about a person.
    :param backoff: retries of requests that change nothing.
    :param read_back_timeouts: bounds on the read-back, which may be large and slow to start.
    :param longest_pause: most seconds that an error asks to wait, whatever Tidepool's response says.
    """

    def __init__(
        self,
        api: str,
        tokens: TokenSource,
        *,
        connect_timeout: float = 10.0,
        read_timeout: float = 75.0,
        total_timeout: float = 150.0,
        session: requests.Session | None = None,
        on_token: TokenWatcher | None = None,
        trace_session: str | None = None,
        backoff: BackOff | None = None,
        read_back_timeouts: HttpTimeouts = READ_BACK_TIMEOUTS,
        longest_pause: float = LONGEST_PAUSE_SECONDS,
    ) -> None:
        self.api = checked_base(api, field="host")
        self._endpoints = Endpoints(self.api)
        self._tokens = tokens
        self._session = session or new_session()
        timeouts = HttpTimeouts(connect_timeout, read_timeout, total_timeout)
        transport = Transport(
            self._session, timeouts, trace_session=trace_session, longest_pause=longest_pause
        )
        self._transport = AuthenticatedTransport(transport, tokens, backoff or BackOff())
        self._read_back_timeouts = read_back_timeouts
        self._user_id: str | None = None
        if on_token is not None:
            tokens.watch(on_token)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    # ------------------------------------------------------------------ the account

    def who_am_i(self) -> str:
        """Return the id of the user that the token belongs to.

        It comes from the login or from the token itself; if neither does, from ``GET /auth/user``.
        """
        if self._user_id is None:
            known = self._tokens.user_id() or ""
            self._user_id = known if USER_ID_PATTERN.fullmatch(known) else self._read_own_id()
        return self._user_id

    def _read_own_id(self) -> str:
        request = self._endpoints.own_account()
        response = self._transport.read(request)
        payload = response.json()
        user_id = payload.get("userid") if isinstance(payload, dict) else None
        if not isinstance(user_id, str) or not USER_ID_PATTERN.fullmatch(user_id):
            raise _unusable(request, response, "the response contains no user id")
        return user_id

    def may_upload_for(self, user_id: str) -> bool:
        """Return whether the account may upload for a user: for itself, or by a right that the user granted.

        Considers rights between accounts; one that comes from membership of a clinic does not show here.

        :param user_id: the user whose data it would be.
        """
        return user_id == self.who_am_i() or user_id in self._granting(looking_for=user_id)

    def uploads_for(self) -> frozenset[str]:
        """Return the users, besides itself, who granted the account the right to upload for them."""
        return self._granting(looking_for=self.who_am_i())

    def _granting(self, *, looking_for: str) -> frozenset[str]:
        request = self._endpoints.accounts_shared_with(self.who_am_i(), looking_for=looking_for)
        response = self._transport.read(request)
        trustors = response.json()
        if not isinstance(trustors, list):
            raise _unusable(request, response, "the response is not a list of users")
        return frozenset(
            str(trustor.get("userid"))
            for trustor in trustors
            if isinstance(trustor, dict)
            and isinstance(granted := trustor.get("trustorPermissions"), dict)
            and {"upload", "root"} & granted.keys()
        )

    # ------------------------------------------------------------------ data sets

    def open_data_set(self, user_id: str, body: Mapping[str, Any]) -> DataSet:
        """Create a data set.

        If the response is lost (``in_doubt``), an empty set may remain that no documented route can find; it
        is invisible and harmless: open another one.

        :param user_id: the user whose data it will hold.
        :param body: what the Platform should know about device and client.
        :raises TidepoolRejectedError: the Platform does not accept the body.
        """
        request = self._endpoints.create(user_id, body)
        response = self._transport.write(request)
        return _parsed(request, response, _checked_envelope(request, response))

    def upload_data(self, data_set_id: str, body: bytes) -> None:
        """Add records to an open data set: all of them, or none if the Platform rejects one.

        :param data_set_id: the data set.
        :param body: a JSON array as UTF-8 text; it is sent byte for byte.
        :raises TidepoolRejectedError: names the position of each rejected record.
        :raises TidepoolDataSetClosedError: the data set accepts no more.
        """
        self._done(self._endpoints.upload(data_set_id, body))

    def delete_data(self, data_set_id: str, selectors: Sequence[Mapping[str, Any]]) -> None:
        """Remove records from an open data set; selecting what is not there is no error.

        :param data_set_id: the data set.
        :param selectors: all of one kind: ``{"id": …}``, ``{"origin": {"id": …}}`` or
            ``{"deduplicator": {"hash": …}}``. The Platform answers anything else with a 500.
        """
        self._done(self._endpoints.remove(data_set_id, selectors))

    def close_data_set(self, data_set_id: str) -> None:
        """Close a normal data set: older repetitions are archived and its data become visible.

        The Platform does this in two steps and answers 409 once the first is done, so neither an outcome
        in doubt nor :class:`TidepoolDataSetClosedError` says whether the data are visible: read them back.

        :param data_set_id: the data set.
        """
        self._done(self._endpoints.close(data_set_id))

    def delete_data_set(self, data_set_id: str) -> None:
        """Delete a data set with all its data; deleting it again is no error.

        :param data_set_id: the data set.
        """
        self._done(self._endpoints.delete(data_set_id))

    def is_open(self, data_set_id: str) -> bool:
        """Return whether a data set accepts data, by posting none to it.

        A data set that was deleted while open still counts as open for the Platform.

        :param data_set_id: the data set.
        :raises TidepoolNotFoundError: the Platform knows no such data set.
        """
        request = self._endpoints.probe(data_set_id)
        try:
            response = self._transport.read(request)
        except TidepoolDataSetClosedError:
            return False
        _checked_envelope(request, response)
        return True

    def data_sets(
        self,
        user_id: str,
        *,
        client_name: str | None = None,
        device_id: str | None = None,
        include_deleted: bool = False,
        page_size: int = DATA_SETS_PER_PAGE,
    ) -> Iterator[DataSet]:
        """Yield a user's visible data sets, newest first: continuous ones, and normal ones that were closed.

        :param user_id: the user whose data they hold.
        :param client_name: only those made by this program.
        :param device_id: only those of this device.
        :param include_deleted: deleted ones as well.
        :param page_size: how many to request at once, 1 … 1,000.
        """
        seen: set[str] = set()
        page, full = 0, True
        while full:
            request = self._endpoints.list(
                user_id,
                client_name=client_name,
                device_id=device_id,
                deleted=include_deleted,
                page=page,
                size=page_size,
            )
            response = self._transport.read(request)
            listed = response.json()
            if not isinstance(listed, list):
                raise _unusable(request, response, "the response is not a list of data sets")
            for payload in listed:
                data_set = _parsed(request, response, payload)
                # A set created meanwhile shifts the others by one, so that one shows again on the next page.
                if data_set.data_set_id not in seen:
                    seen.add(data_set.data_set_id)
                    yield data_set
            page, full = page + 1, len(listed) >= page_size

    def get_data_set(self, data_set_id: str) -> DataSet:
        """Return one data set, open ones too. The Platform shows it to the user it belongs to, nobody else.

        :param data_set_id: the data set.
        :raises TidepoolPermissionError: the account is not that user; ``read_data`` with the type ``upload``
            shows the set once it is visible.
        """
        request = self._endpoints.get(data_set_id)
        response = self._transport.read(request)
        return _parsed(request, response, response.json())

    # ------------------------------------------------------------------ read-back

    @overload
    def read_data(
        self,
        user_id: str,
        *,
        data_set_id: str | None = None,
        device_id: str | None = None,
        types: Sequence[str] = (),
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> Iterator[dict[str, Any]]: ...

    @overload
    def read_data(
        self,
        user_id: str,
        *,
        fields: type[Fields],
        data_set_id: str | None = None,
        device_id: str | None = None,
        types: Sequence[str] = (),
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> Iterator[list[Fields]]: ...

    def read_data(
        self,
        user_id: str,
        *,
        fields: type[Fields] | None = None,
        data_set_id: str | None = None,
        device_id: str | None = None,
        types: Sequence[str] = (),
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> Iterator[dict[str, Any]] | Iterator[list[Fields]]:
        """Yield a user's visible records as Tidepool holds them, data sets' own (type ``upload``) included.

        They stream: memory does not grow with their number. A response that ends early is an error and
        never a shorter response, so a comparison must read to the end.

        :param user_id: the user whose data they are.
        :param fields: yields of each record these fields only, in blocks, at a fraction of the cost; see
            :func:`~tidepool_ingest.client.json_stream.blocks_of`.
        :param data_set_id: only those of this data set; without it, no row is left out as a duplicate.
        :param device_id: only those of this device.
        :param types: only these types.
        :param start: only from this moment on, with a time zone.
        :param end: only up to this moment, with a time zone.
        :raises TidepoolUnreachableError: the response broke off; start again.
        """
        request = self._endpoints.read_back(
            user_id, data_set_id=data_set_id, device_id=device_id, types=types, start=start, end=end
        )
        if fields is None:
            return self._streamed(request, objects_of)
        return self._streamed(request, partial(blocks_of, kind=fields))

    def _streamed(
        self, request: Request, decoded: Callable[[Iterable[bytes]], Iterator[Decoded]]
    ) -> Iterator[Decoded]:
        malformed = ""
        with self._transport.stream(request, self._read_back_timeouts) as response:
            try:
                yield from decoded(response.pieces())
            except MalformedArrayError as error:
                malformed = error.reason
        if malformed:
            raise TidepoolUnreachableError(
                request.operation, reason=f"the response is unusable: {malformed}", place=place_of(request)
            )

    def _done(self, request: Request) -> None:
        _checked_envelope(request, self._transport.write(request))


def _checked_envelope(request: Request, response: Response) -> Any:
    # A proxy's own page may have status 200: only the Platform's envelope says that it did something.
    payload = response.json()
    if not isinstance(payload, dict) or "data" not in payload:
        raise _unusable(request, response, "the response is not one of the Platform's")
    return payload["data"]


def _parsed(request: Request, response: Response, payload: Any) -> DataSet:
    data_set = DataSet.parse(payload)
    if data_set is None or not DATA_SET_ID_PATTERN.fullmatch(data_set.data_set_id):
        raise _unusable(request, response, "the response describes no data set")
    return data_set


def _unusable(request: Request, response: Response, reason: str) -> TidepoolError:
    return unusable_response(request, reason, status=response.status, trace_id=response.trace_id)


def connect(
    settings: ClientSettings,
    *,
    session: requests.Session | None = None,
    refresh_tokens: RefreshTokenStore | None = None,
    on_token: TokenWatcher | None = None,
    backoff: BackOff | None = None,
) -> TidepoolClient:
    """Return a client made from settings. Nothing is sent yet.

    :param settings: what it needs to know.
    :param session: carries the requests.
    :param refresh_tokens: shares a rotating refresh token between processes.
    :param on_token: called with every secret before its use, so that it can be masked in logs.
    :param backoff: retries of requests that change nothing.
    :raises TidepoolConfigurationError: names the setting to correct.
    """
    sign_in = SignIn(
        settings,
        environment(settings.environment),
        session or new_session(),
        backoff or BackOff(),
        refresh_tokens or MemoryRefreshTokenStore(),
    )
    return TidepoolClient(
        sign_in.environment.api,
        token_source(sign_in),
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
        session=sign_in.session,
        on_token=on_token,
        trace_session=settings.trace_session,
        backoff=backoff,
        longest_pause=settings.longest_pause,
    )
