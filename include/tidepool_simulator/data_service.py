"""The data service: data sets and the data in them (data/service/api/v1/*.go of the Platform).

Each handler checks things in the order in which the Platform's does: the set is there, the user may, the
set is open, the body is JSON, the JSON is valid; then it writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tidepool_ingest.model import NoIdentityError, NotAcceptedError, stored_form, validate_data_set
from tidepool_ingest.model import deduplicators as described
from tidepool_simulator import rejections
from tidepool_simulator.accounts import (
    CUSTODIAN_PERMISSION,
    OWNER_PERMISSION,
    UPLOAD_PERMISSION,
    VIEW_PERMISSION,
    Accounts,
)
from tidepool_simulator.authentication import RefusedError, identity_of
from tidepool_simulator.bodies import MalformedError, decode, decode_first
from tidepool_simulator.data_set_documents import data_set_of, is_data_set_id, judge_update, new_id, update_of
from tidepool_simulator.data_set_store import AlreadyExistsError
from tidepool_simulator.deduplicators import Deduplicator, deduplicator_of
from tidepool_simulator.exchange import (
    TRACE_REQUEST_HEADER,
    TRACE_SESSION_HEADER,
    Request,
    Response,
    Route,
    Router,
)
from tidepool_simulator.instants import now_text
from tidepool_simulator.queries import Parameters
from tidepool_simulator.records import CLOSED, DataSet, Datum
from tidepool_simulator.responses import bare_error, enveloped, handler_error, router_error
from tidepool_simulator.rules import Rules
from tidepool_simulator.selectors import InvalidSelectorsError, selection_of
from tidepool_simulator.sessions import Identity, Sessions
from tidepool_simulator.store import Store
from tidepool_simulator.writes import MissingDeviceError, TooManyHashesError, UnstorableError


class DataService:
    """Answer what goes to the data service."""

    def __init__(self, store: Store, accounts: Accounts, sessions: Sessions, rules: Rules) -> None:
        self._store = store
        self._rules = rules
        self._accounts = accounts
        self._sessions = sessions
        self.router = Router(self._routes())

    def _routes(self) -> Sequence[Route]:
        return [
            Route("GET", "/v1/time", "time", self._time),
            Route("GET", "/v1/users/{user}/data_sets", "list", self._list),
            Route("GET", "/v1/users/{user}/datasets", "list", self._list_old),
            Route("POST", "/v1/users/{user}/data_sets", "create", self._create),
            Route("POST", "/v1/users/{user}/datasets", "create", self._create),
            Route("DELETE", "/v1/users/{user}/data", "delete-user-data", self._delete_user_data),
            Route("GET", "/v1/data_sets/{data_set}", "get", self._get),
            Route("POST", "/v1/data_sets/{data_set}/data", "post", self._post),
            Route("POST", "/v1/datasets/{data_set}/data", "post", self._post),
            Route("DELETE", "/v1/data_sets/{data_set}/data", "delete-data", self._delete_data),
            Route("PUT", "/v1/data_sets/{data_set}", "close", self._close),
            Route("PUT", "/v1/datasets/{data_set}", "close", self._close),
            Route("DELETE", "/v1/data_sets/{data_set}", "delete", self._delete),
            Route("DELETE", "/v1/datasets/{data_set}", "delete", self._delete),
        ]

    def respond(self, request: Request, path: str) -> Response:
        """Answer one request.

        :param path: its path without the gateway's prefix.
        """
        try:
            response = self._routed(request, path)
        except RefusedError as refused:
            response = refused.response
        response.headers.append((TRACE_REQUEST_HEADER, request.trace["request"]))
        if "session" in request.trace:
            response.headers.append((TRACE_SESSION_HEADER, request.trace["session"]))
        return response

    def _routed(self, request: Request, path: str) -> Response:
        identity = identity_of(request, self._sessions)
        match = self.router.match(request.method, path)
        if match.route is None:
            return router_error(405 if match.known_path else 404)
        if match.route.operation == "time":
            return match.route.handler(request)
        if identity is None:
            return bare_error("unauthenticated")
        return match.route.handler(request, identity, *match.values)

    # -------------------------------------------------------------------------------------- who may what

    def _permissions(self, identity: Identity, user_id: str) -> frozenset[str]:
        if identity.is_service:
            return frozenset({OWNER_PERMISSION, UPLOAD_PERMISSION, VIEW_PERMISSION})
        return self._accounts.permissions(identity.user_id, user_id)

    def _require(self, request: Request, identity: Identity, user_id: str, permission: str) -> None:
        if permission not in self._permissions(identity, user_id):
            raise RefusedError(handler_error(request, "unauthorized"))

    def _writable_set(self, request: Request, identity: Identity, upload_id: str) -> DataSet:
        """Return a data set to write into: it is there, the user may upload, it is open."""
        data_set = self._known_set(request, upload_id)
        self._require(request, identity, data_set.user_id, UPLOAD_PERMISSION)
        if data_set.state == CLOSED:
            raise RefusedError(handler_error(request, "data-set-closed", upload_id))
        return data_set

    def _known_set(self, request: Request, upload_id: str) -> DataSet:
        data_set = self._store.data_set(upload_id)
        if data_set is None:
            raise RefusedError(handler_error(request, "data-set-id-not-found", upload_id))
        return data_set

    def _deduplicator(self, request: Request, data_set: DataSet) -> Deduplicator:
        description = described.deduplicator_named(data_set.deduplicator_name or "")
        if description is None:
            raise _failure(request)
        return deduplicator_of(self._store, description)

    # ----------------------------------------------------------------------------------------- data sets

    def _time(self, request: Request) -> Response:
        return enveloped(request, 200, {"time": now_text()})

    def _list(self, request: Request, identity: Identity, user_id: str) -> Response:
        held = self._permissions(identity, user_id)
        if not held & {CUSTODIAN_PERMISSION, UPLOAD_PERMISSION, VIEW_PERMISSION}:
            return bare_error("unauthorized")
        parameters = Parameters(request.query)
        client_name, deleted, device_id = (
            parameters.text("client.name"),
            parameters.truth("deleted"),
            parameters.text("deviceId"),
        )
        page, size = parameters.page()
        if wrong := parameters.wrong():
            return rejections.rejected(wrong)
        found = self._store.list_data_sets(
            user_id, client_name=client_name, device_id=device_id, deleted=deleted, page=page, size=size
        )
        return Response.of_json(200, [data_set.document for data_set in found])

    def _list_old(self, request: Request, identity: Identity, user_id: str) -> Response:
        self._require(request, identity, user_id, VIEW_PERMISSION)
        parameters = Parameters(request.query)
        deleted = parameters.truth("deleted")
        page, size = parameters.page()
        if wrong := parameters.wrong():
            return rejections.rejected(wrong)
        found = self._store.list_data_sets(user_id, deleted=deleted, page=page, size=size)
        return enveloped(request, 200, [data_set.document for data_set in found])

    def _create(self, request: Request, identity: Identity, user_id: str) -> Response:
        self._require(request, identity, user_id, UPLOAD_PERMISSION)
        body = self._json(request, dict)
        if problems := validate_data_set(body):
            return rejections.rejected(rejections.of_body(body, problems))
        data_set = data_set_of(body, user_id=user_id, creator_id=identity.user_id or None)
        if not data_set.upload_id:
            raise _failure(request)
        try:
            self._store.create_data_set(data_set)
        except (AlreadyExistsError, UnstorableError) as error:
            raise _failure(request) from error
        # From here on a failure leaves the row behind, for ever open and unreachable: so does the Platform.
        description = described.deduplicator_of(data_set.document)
        if description is None or not is_data_set_id(data_set.upload_id):
            raise _failure(request)
        data_set = deduplicator_of(self._store, description).open(data_set)
        return enveloped(request, 201, data_set.document)

    def _get(self, request: Request, identity: Identity, upload_id: str) -> Response:
        data_set = self._store.data_set(upload_id)
        if data_set is None:
            return bare_error("resource-not-found", upload_id)
        if not identity.is_service and identity.user_id != data_set.user_id:
            return bare_error("unauthorized")
        return Response.of_json(200, data_set.document)

    def _close(self, request: Request, identity: Identity, upload_id: str) -> Response:
        data_set = self._writable_set(request, identity, upload_id)
        state: str | None = CLOSED
        document: dict[str, Any] = {}
        if data_set.is_continuous:
            if not identity.is_service:
                raise RefusedError(handler_error(request, "unauthorized"))
            body = self._first_json(request)
            if problems := judge_update(body):
                return rejections.rejected(rejections.of_body(body, problems))
            state, document = update_of(body)
        if not is_data_set_id(upload_id):
            raise _failure(request)  # such a set was left behind by its failed create
        # Two steps, and nothing undoes the first when the second fails: closed then, and its data invisible.
        data_set = self._store.update_data_set(upload_id, state=state, document=document)
        if state == CLOSED:
            deduplicator = self._deduplicator(request, data_set)
            self._attempt(request, lambda: deduplicator.close(data_set))
        return enveloped(request, 200, data_set.document)

    def _delete(self, request: Request, identity: Identity, upload_id: str) -> Response:
        data_set = self._known_set(request, upload_id)
        held = self._permissions(identity, data_set.user_id)
        created_it = UPLOAD_PERMISSION in held and data_set.by_user == identity.user_id
        if not held & {OWNER_PERMISSION, CUSTODIAN_PERMISSION} and not created_it:
            raise RefusedError(handler_error(request, "unauthorized"))
        if data_set.deduplicator_name is None:
            self._store.delete_data_set(data_set)
        else:
            deduplicator = self._deduplicator(request, data_set)
            self._attempt(request, lambda: deduplicator.delete(data_set))
        return enveloped(request, 200, {})

    def _delete_user_data(self, request: Request, identity: Identity, user_id: str) -> Response:
        if not identity.is_service:
            raise RefusedError(handler_error(request, "unauthorized"))
        self._store.delete_user(user_id)
        return enveloped(request, 200, [])

    # ---------------------------------------------------------------------------------------------- data

    def _post(self, request: Request, identity: Identity, upload_id: str) -> Response:
        data_set = self._writable_set(request, identity, upload_id)
        posted = self._json(request, list)
        stored, wrong = _stored_of(posted, self._rules)
        if wrong:
            return rejections.rejected(wrong)
        deduplicator = self._deduplicator(request, data_set)
        self._attempt(request, lambda: deduplicator.add(data_set, stored))
        return enveloped(request, 200, [])

    def _delete_data(self, request: Request, identity: Identity, upload_id: str) -> Response:
        data_set = self._writable_set(request, identity, upload_id)
        try:
            selection = selection_of(decode_first(request.body))
        except (MalformedError, InvalidSelectorsError) as error:
            raise _failure(request) from error
        self._deduplicator(request, data_set).remove(data_set, selection)
        return enveloped(request, 200, [])

    # -------------------------------------------------------------------------------------------- pieces

    def _json(self, request: Request, kind: type[Any]) -> Any:
        try:
            body = decode(request.body)
        except MalformedError as error:
            raise RefusedError(handler_error(request, "json-malformed")) from error
        if body is None:
            return kind()
        if not isinstance(body, kind):
            raise RefusedError(handler_error(request, "json-malformed"))
        return body

    def _first_json(self, request: Request) -> dict[str, Any]:
        if not request.body.strip():
            raise RefusedError(bare_error("json-not-found"))
        try:
            body = decode_first(request.body)
        except MalformedError as error:
            raise RefusedError(bare_error("json-malformed")) from error
        if not isinstance(body, dict):
            raise RefusedError(bare_error("json-malformed"))
        return body

    def _attempt(self, request: Request, step: Callable[[], None]) -> None:
        """Do what a deduplicator does; what it cannot do is a failure of the server."""
        try:
            step()
        except (MissingDeviceError, NoIdentityError, TooManyHashesError, UnstorableError) as error:
            raise _failure(request) from error


def _failure(request: Request) -> RefusedError:
    return RefusedError(handler_error(request, "internal-server-failure"))


def _stored_of(posted: list[Any], rules: Rules) -> tuple[list[Datum], list[rejections.Rejection]]:
    """Return what is to be stored of posted data, embedded data last, and what is wrong with them.

    Problems of parsing, in any datum, hide the others.
    """
    stored: list[Datum] = []
    split_off: list[Datum] = []
    parsing: list[rejections.Rejection] = []
    validating: list[rejections.Rejection] = []
    for index, datum in enumerate(posted):
        if datum is None:
            continue
        try:
            first, *rest = stored_form(datum, new_id=new_id)
        except NotAcceptedError as error:
            stage = parsing if rejections.is_parse_stage(datum) else validating
            stage += rejections.of_datum(index, datum, error.problems)
            continue
        now_wrong, then_wrong = rules.broken_by(datum)
        parsing += rejections.of_datum(index, datum, now_wrong)
        validating += rejections.of_datum(index, datum, then_wrong)
        if not (now_wrong or then_wrong):
            stored.append(Datum(first, breaks_storage=rules.break_storage(datum)))
            split_off += map(Datum, rest)
    return stored + split_off, parsing or validating
