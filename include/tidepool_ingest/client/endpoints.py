"""What each request looks like on the wire: route, query, body, and what a log may contain about it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from tidepool_ingest.client.errors import TidepoolConfigurationError
from tidepool_ingest.client.responses import Purpose, Request
from tidepool_ingest.privacy import short_hash

UNFILTERED = {"carelink": "true", "cbgFilter": "false", "medtronic": "true"}
"""Without a data set id the read-back leaves out what seems another source's duplicate; these undo it."""

USER_ID_PATTERN = re.compile(r"[0-9a-f]{10}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
"""Ten hex digits or a UUID, as the Platform itself checks (user/user.go)."""

DATA_SET_ID_PATTERN = re.compile(r"[0-9A-Za-z_-]{1,64}")
"""What is allowed in a path; the Platform's own are ``upid_`` with 12 or 32 hex digits, or 32 alone."""

SELECTOR_KINDS = frozenset({"id", "origin", "deduplicator"})
"""By what records can be selected, one kind per request; the Platform answers anything else with a 500."""


@dataclass(frozen=True)
class Endpoints:
    """Build the requests to one API.

    :param api: its base URL.
    """

    api: str

    def own_account(self) -> Request:
        """Find out whose token it is."""
        return self._request("find out whose token this is", Purpose.READ, "GET", "/auth/user")

    def accounts_shared_with(self, user_id: str, *, looking_for: str) -> Request:
        """Find out which users have granted an account a right."""
        path = f"/metadata/users/{_user(user_id)}/users"
        return self._request(
            "look up permissions", Purpose.READ, "GET", path, about=_shown(_user(looking_for))
        )

    def create(self, user_id: str, body: Mapping[str, Any]) -> Request:
        """Create a data set."""
        path = f"/v1/users/{_user(user_id)}/data_sets"
        return self._request(
            "open a data set", Purpose.WRITE, "POST", path, body=_json(body), about=_shown(user_id)
        )

    def list(
        self,
        user_id: str,
        *,
        client_name: str | None,
        device_id: str | None,
        deleted: bool,
        page: int,
        size: int,
    ) -> Request:
        """List a page of data sets; the Platform rejects unknown query keys."""
        query = {
            "client.name": client_name,
            "deviceId": device_id,
            "deleted": "true" if deleted else None,
            "page": str(page),
            "size": str(size),
        }
        params = {name: value for name, value in query.items() if value is not None}
        path = f"/v1/users/{_user(user_id)}/data_sets"
        return self._request(
            "list data sets", Purpose.READ, "GET", path, params=params, about=_shown(user_id)
        )

    def get(self, data_set_id: str) -> Request:
        """Get one data set."""
        return self._data_set_request("get the data set", Purpose.READ, "GET", data_set_id)

    def upload(self, data_set_id: str, body: bytes) -> Request:
        """Post records."""
        if body.lstrip()[:1] != b"[":
            raise ValueError("The body of an upload is the text of a JSON array.")
        request = self._data_set_request(
            "upload data", Purpose.WRITE, "POST", data_set_id, "/data", body=body
        )
        return replace(request, numbered=True)

    def probe(self, data_set_id: str) -> Request:
        """Post no records, which changes nothing."""
        operation = "check whether the data set is open"
        return self._data_set_request(operation, Purpose.READ, "POST", data_set_id, "/data", body=b"[]")

    def remove(self, data_set_id: str, selectors: Sequence[Mapping[str, Any]]) -> Request:
        """Delete records by selectors."""
        kinds = {tuple(selector) for selector in selectors}
        if len(kinds) != 1 or not kinds <= {(kind,) for kind in SELECTOR_KINDS}:
            raise ValueError(
                "There is at least one selector, and each has the same one of id, origin, deduplicator."
            )
        body = _json([dict(selector) for selector in selectors])
        request = self._data_set_request(
            "remove data", Purpose.WRITE, "DELETE", data_set_id, "/data", body=body
        )
        return replace(request, numbered=True)

    def close(self, data_set_id: str) -> Request:
        """Close a normal data set; the Platform then ignores the rest of the body."""
        body = _json({"dataState": "closed"})
        return self._data_set_request("close the data set", Purpose.WRITE, "PUT", data_set_id, body=body)

    def delete(self, data_set_id: str) -> Request:
        """Delete a data set."""
        return self._data_set_request("delete the data set", Purpose.WRITE, "DELETE", data_set_id)

    def read_back(
        self,
        user_id: str,
        *,
        data_set_id: str | None,
        device_id: str | None,
        types: Sequence[str],
        start: datetime | None,
        end: datetime | None,
    ) -> Request:
        """Read visible records."""
        params = {
            **({"uploadId": _upload(data_set_id)} if data_set_id is not None else UNFILTERED),
            **({"deviceId": device_id} if device_id else {}),
            **({"type": ",".join(types)} if types else {}),
            **({"startDate": _moment(start)} if start else {}),
            **({"endDate": _moment(end)} if end else {}),
        }
        path = f"/data/{_user(user_id)}"
        about = f"data set {data_set_id}" if data_set_id else _shown(user_id)
        return self._request("read data back", Purpose.READ, "GET", path, params=params, about=about)

    def _data_set_request(
        self, operation: str, purpose: Purpose, method: str, data_set_id: str, path: str = "", **kwargs: Any
    ) -> Request:
        path = f"/v1/data_sets/{_upload(data_set_id)}{path}"
        return self._request(operation, purpose, method, path, about=f"data set {data_set_id}", **kwargs)

    def _request(self, operation: str, purpose: Purpose, method: str, path: str, **kwargs: Any) -> Request:
        headers = {"Content-Type": "application/json"} if "body" in kwargs else {}
        return Request(operation, purpose, method, self.api + path, headers=headers, **kwargs)


def _json(body: Any) -> bytes:
    return json.dumps(body, allow_nan=False).encode()


def _moment(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError("The bounds of a read-back need a time zone.")
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _shown(user_id: str) -> str:
    return f"user {short_hash(user_id)}"


def _user(user_id: str) -> str:
    return _checked(user_id, USER_ID_PATTERN, "user id", "ten hex digits or a UUID")


def _upload(data_set_id: str) -> str:
    return _checked(data_set_id, DATA_SET_ID_PATTERN, "data set id", "one that Tidepool gave")


def _checked(value: str, pattern: re.Pattern[str], what: str, rule: str) -> str:
    if pattern.fullmatch(value):
        return value
    raise TidepoolConfigurationError(
        f"use a {what}",
        reason=f"it is not {rule}",
        fields=(what.replace(" ", "_"),),
        remedy=f"Give a {what} that is {rule}.",
    )
