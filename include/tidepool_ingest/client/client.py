"""The client: one method for each thing that Tidepool can be asked for, and the token that goes with each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import requests

from tidepool_ingest.client.backoff import BackOff
from tidepool_ingest.client.endpoints import UPLOAD_ID_PATTERN, USER_ID_PATTERN, Calls
from tidepool_ingest.client.environments import checked_base
from tidepool_ingest.client.errors import (
    TidepoolAuthenticationError,
    TidepoolDataSetClosedError,
    TidepoolError,
    TidepoolPermissionError,
    TidepoolUnreachableError,
)
from tidepool_ingest.client.json_stream import MalformedArrayError, objects_of
from tidepool_ingest.client.responses import CANNOT_VIEW, Answer, Call
from tidepool_ingest.client.tokens import SESSION_TOKEN_HEADER, TokenSource, TokenWatcher
from tidepool_ingest.client.transport import (
    Exchange,
    Timeouts,
    Transport,
    new_session,
    place_of,
    unusable_answer,
)


@dataclass(frozen=True)
class DataSet:
    """One data set, from an answer about it or from its own record in a read-back.

    :param upload_id: the id by which it is addressed.
    :param id: its record's id, the same unless a client chose otherwise.
    :param data_set_type: ``normal`` or ``continuous``.
    :param deduplicator: full name of its deduplicator, empty if the answer names none.
    :param device_id: the device, empty if the answer names none.
    :param client_name: reverse DNS name of the program that created it, empty if the answer names none.
    :param created_time: when the Platform stored it; a read-back does not say.
    :param deleted: whether it has been deleted.
    :param state: ``open`` or ``closed``; only a read-back says.
    """

    upload_id: str
    id: str
    data_set_type: str
    deduplicator: str = ""
    device_id: str = field(default="", repr=False)
    client_name: str = ""
    created_time: datetime | None = None
    deleted: bool = False
    state: str = ""

    @classmethod
    def parse(cls, told: Any) -> DataSet | None:
        """Return the data set that a decoded answer describes, ``None`` if it describes none.

        :param told: the object in question.
        """
        if not isinstance(told, dict):
            return None
        upload_id = _text(told, "uploadId")
        created = _text(told, "createdTime")
        try:
            created_time = datetime.fromisoformat(created) if created else None
        except ValueError:
            return None
        if not upload_id:
            return None
        return cls(
            upload_id=upload_id,
            id=_text(told, "id") or upload_id,
            data_set_type=_text(told, "dataSetType") or "normal",
            deduplicator=_text(told, "deduplicator", "name") or _text(told, "_deduplicator", "name"),
            device_id=_text(told, "deviceId"),
            client_name=_text(told, "client", "name"),
            created_time=created_time,
            deleted=bool(told.get("deletedTime")),
            state=_text(told, "_state"),
        )


def _text(told: Mapping[str, Any], *path: str) -> str:
    value: Any = told
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else ""


Result = TypeVar("Result")


class Conversation:
    """Send requests with a token, renewing it once when it is rejected.

    :param transport: sends the requests.
    :param tokens: where tokens come from.
    :param backoff: retries of requests that change nothing.
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

        Only the beginning is tried again; what breaks off later, the caller starts again.

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


DATA_SETS_PER_PAGE = 100
"""The Platform's own default; it allows 1 … 1,000."""

READ_BACK_TIMEOUTS = Timeouts(connect=10.0, read=190.0, total=1800.0)
"""A read-back may take its server's three minutes to start, and be hundreds of megabytes long."""


class TidepoolClient:
    """Speak to one Tidepool environment with one account.

    Requests that change something are sent once. If it is not known whether one was carried out, a
    :class:`TidepoolUnreachableError` with ``ambiguous`` set says so, and the caller has to look. The one
    exception is an answer 401, which Tidepool gives before it does anything: the token is renewed and the
    request sent once more. Requests that change nothing are tried again for a short while. Several threads
    may call at once.

    :param api: base URL of the API.
    :param tokens: where tokens come from.
    :param connect_timeout: seconds to wait for a connection.
    :param read_timeout: seconds to wait for the first piece of an answer, and between two pieces.
    :param total_timeout: seconds that may be spent on reading one answer.
    :param session: carries the requests; made by :func:`new_session` when left out.
    :param on_token: called with every token before its use, so that it can be masked in logs.
    :param trace_session: ties the requests of one run together in Tidepool's logs; nothing about a person.
    :param backoff: retries of requests that change nothing.
    :param read_back_timeouts: bounds on the read-back, which may be large and slow to start.
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
        read_back_timeouts: Timeouts = READ_BACK_TIMEOUTS,
    ) -> None:
        self.api = checked_base(api, field="host")
        self._calls = Calls(self.api)
        self._tokens = tokens
        self._session = session or new_session()
        timeouts = Timeouts(connect_timeout, read_timeout, total_timeout)
        transport = Transport(self._session, timeouts, trace_session=trace_session)
        self._conversation = Conversation(transport, tokens, backoff or BackOff())
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
            self._user_id = known if USER_ID_PATTERN.fullmatch(known) else self._asked_who_i_am()
        return self._user_id

    def _asked_who_i_am(self) -> str:
        call = self._calls.own_account()
        answer = self._conversation.read(call)
        told = answer.json()
        user_id = told.get("userid") if isinstance(told, dict) else None
        if not isinstance(user_id, str) or not USER_ID_PATTERN.fullmatch(user_id):
            raise _unusable(call, answer, "the answer holds no user id")
        return user_id

    def may_upload_for(self, user_id: str) -> bool:
        """Tell whether the account may upload for a user: for itself, or by a right that the user granted.

        Looks at rights between accounts; one that a clinic's membership brings is not seen here.

        :param user_id: the user whose data it would be.
        """
        return user_id == self.who_am_i() or user_id in self._granting(looking_for=user_id)

    def uploads_for(self) -> frozenset[str]:
        """Return the users, besides itself, who granted the account the right to upload for them."""
        return self._granting(looking_for=self.who_am_i())

    def _granting(self, *, looking_for: str) -> frozenset[str]:
        call = self._calls.accounts_shared_with(self.who_am_i(), looking_for=looking_for)
        answer = self._conversation.read(call)
        trustors = answer.json()
        if not isinstance(trustors, list):
            raise _unusable(call, answer, "the answer is not a list of users")
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

        If the answer is lost (``ambiguous``), an empty set may be left that no documented route can find; it
        is invisible and harmless: open another one.

        :param user_id: the user whose data it will hold.
        :param body: what the Platform should know about device and client.
        :raises TidepoolRejectedError: the Platform does not accept the body.
        """
        call = self._calls.create(user_id, body)
        answer = self._conversation.write(call)
        return _parsed(call, answer, _checked_envelope(call, answer))

    def upload_data(self, upload_id: str, body: bytes) -> None:
        """Add records to an open data set: all of them, or none if the Platform rejects one.

        :param upload_id: the data set.
        :param body: a JSON array as UTF-8 text; it is sent byte for byte.
        :raises TidepoolRejectedError: names the position of each rejected record.
        :raises TidepoolDataSetClosedError: the data set takes no more.
        """
        self._done(self._calls.upload(upload_id, body))

    def delete_data(self, upload_id: str, selectors: Sequence[Mapping[str, Any]]) -> None:
        """Remove records from an open data set; selecting what is not there is no error.

        :param upload_id: the data set.
        :param selectors: all of one kind: ``{"id": …}``, ``{"origin": {"id": …}}`` or
            ``{"deduplicator": {"hash": …}}``. The Platform answers anything else with a 500.
        """
        self._done(self._calls.remove(upload_id, selectors))

    def close_data_set(self, upload_id: str) -> None:
        """Close a normal data set: older repetitions are archived and its data become visible.

        The Platform does this in two steps and answers 409 once the first is done, so neither an ambiguous
        outcome nor :class:`TidepoolDataSetClosedError` says whether the data are visible: read them back.

        :param upload_id: the data set.
        """
        self._done(self._calls.close(upload_id))

    def delete_data_set(self, upload_id: str) -> None:
        """Delete a data set with all its data; deleting it again is no error.

        :param upload_id: the data set.
        """
        self._done(self._calls.delete(upload_id))

    def is_open(self, upload_id: str) -> bool:
        """Tell whether a data set takes data, by posting none to it.

        A data set that was deleted while open still counts as open for the Platform.

        :param upload_id: the data set.
        :raises TidepoolNotFoundError: the Platform knows no such data set.
        """
        call = self._calls.probe(upload_id)
        try:
            answer = self._conversation.read(call)
        except TidepoolDataSetClosedError:
            return False
        _checked_envelope(call, answer)
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
        :param page_size: how many are asked for at once, 1 … 1,000.
        """
        seen: set[str] = set()
        page, full = 0, True
        while full:
            call = self._calls.list(
                user_id,
                client_name=client_name,
                device_id=device_id,
                deleted=include_deleted,
                page=page,
                size=page_size,
            )
            answer = self._conversation.read(call)
            listed = answer.json()
            if not isinstance(listed, list):
                raise _unusable(call, answer, "the answer is not a list of data sets")
            for told in listed:
                data_set = _parsed(call, answer, told)
                # A set created meanwhile moves the others one place on, into the next page once more.
                if data_set.upload_id not in seen:
                    seen.add(data_set.upload_id)
                    yield data_set
            page, full = page + 1, len(listed) >= page_size

    def get_data_set(self, upload_id: str) -> DataSet:
        """Return one data set, open ones too. The Platform shows it to the user it belongs to, nobody else.

        :param upload_id: the data set.
        :raises TidepoolPermissionError: the account is not that user; ``read_data`` with the type ``upload``
            shows the set once it is visible.
        """
        call = self._calls.get(upload_id)
        answer = self._conversation.read(call)
        return _parsed(call, answer, answer.json())

    # ------------------------------------------------------------------ read-back

    def read_data(
        self,
        user_id: str,
        *,
        upload_id: str | None = None,
        device_id: str | None = None,
        types: Sequence[str] = (),
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yield a user's visible records as Tidepool holds them, data sets' own (type ``upload``) included.

        They stream: memory does not grow with their number. An answer that ends early is an error and
        never a shorter answer, so a comparison must read to the end.

        :param user_id: the user whose data they are.
        :param upload_id: only those of this data set; without it, nothing is left out as a repetition either.
        :param device_id: only those of this device.
        :param types: only these types.
        :param start: only from this moment on, with a time zone.
        :param end: only up to this moment, with a time zone.
        :raises TidepoolUnreachableError: the answer broke off; start again.
        """
        call = self._calls.read_back(
            user_id, upload_id=upload_id, device_id=device_id, types=types, start=start, end=end
        )
        return self._streamed(call)

    def _streamed(self, call: Call) -> Iterator[dict[str, Any]]:
        malformed = ""
        with self._conversation.stream(call, self._read_back_timeouts) as exchange:
            try:
                yield from objects_of(exchange.pieces())
            except MalformedArrayError as error:
                malformed = error.reason
        if malformed:
            raise TidepoolUnreachableError(
                call.operation, reason=f"the answer is of no use: {malformed}", place=place_of(call)
            )

    def _done(self, call: Call) -> None:
        _checked_envelope(call, self._conversation.write(call))


def _checked_envelope(call: Call, answer: Answer) -> Any:
    # A proxy's own page may come with status 200: only the Platform's envelope says that it did something.
    told = answer.json()
    if not isinstance(told, dict) or "data" not in told:
        raise _unusable(call, answer, "the answer is not one of the Platform's")
    return told["data"]


def _parsed(call: Call, answer: Answer, told: Any) -> DataSet:
    data_set = DataSet.parse(told)
    if data_set is None or not UPLOAD_ID_PATTERN.fullmatch(data_set.upload_id):
        raise _unusable(call, answer, "the answer describes no data set")
    return data_set


def _unusable(call: Call, answer: Answer, reason: str) -> TidepoolError:
    return unusable_answer(call, reason, status=answer.status, trace_id=answer.trace_id)
