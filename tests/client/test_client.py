from __future__ import annotations

import gzip
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from tests.timing import Clock, until
from tidepool_ingest.client import (
    DataSet,
    Problem,
    TidepoolAuthenticationError,
    TidepoolBusyError,
    TidepoolClient,
    TidepoolConfigurationError,
    TidepoolDataSetClosedError,
    TidepoolError,
    TidepoolNotFoundError,
    TidepoolPermissionError,
    TidepoolRejectedError,
    TidepoolUnexpectedAnswerError,
    TidepoolUnreachableError,
    exchange,
)
from tidepool_ingest.client.tokens import FixedToken
from tidepool_ingest.client.transport import HttpTimeouts
from tidepool_ingest.privacy import short_hash

from .wire import (
    CANARY,
    NEVER,
    OTHER_USER,
    UNAUTHENTICATED,
    UPLOAD,
    USER,
    Reply,
    Seen,
    Wire,
    envelope,
    handler_error,
    jwt,
)

Talk = Callable[..., TidepoolClient]

SET = {
    "uploadId": UPLOAD,
    "id": UPLOAD,
    "type": "upload",
    "dataSetType": "normal",
    "deduplicator": {"name": "org.tidepool.deduplicator.device.deactivate.hash", "version": "1.1.0"},
    "deviceId": CANARY,
    "client": {"name": "org.example.ingest", "version": "1.0.0"},
    "createdTime": "2026-07-20T10:11:12.345Z",
}

WRITES: list[tuple[str, Callable[[TidepoolClient], Any]]] = [
    (f"POST /v1/users/{USER}/data_sets", lambda client: client.open_data_set(USER, {"deviceId": CANARY})),
    (f"POST /v1/data_sets/{UPLOAD}/data", lambda client: client.upload_data(UPLOAD, b'[{"value": 5.5}]')),
    (f"DELETE /v1/data_sets/{UPLOAD}/data", lambda client: client.delete_data(UPLOAD, [{"id": CANARY}])),
    (f"PUT /v1/data_sets/{UPLOAD}", lambda client: client.close_data_set(UPLOAD)),
    (f"DELETE /v1/data_sets/{UPLOAD}", lambda client: client.delete_data_set(UPLOAD)),
]

READS: list[tuple[str, Reply, Callable[[TidepoolClient], Any]]] = [
    ("GET /auth/user", Reply(200, {"userid": USER}), lambda client: client.who_am_i()),
    (f"POST /v1/data_sets/{UPLOAD}/data", envelope([]), lambda client: client.is_open(UPLOAD)),
    (f"GET /v1/users/{USER}/data_sets", Reply(200, [SET]), lambda client: list(client.data_sets(USER))),
    (f"GET /v1/data_sets/{UPLOAD}", Reply(200, SET), lambda client: client.get_data_set(UPLOAD)),
    (f"GET /data/{USER}", Reply(200, [{"a": 1}]), lambda client: list(client.read_data(USER))),
]

writes = pytest.mark.parametrize(
    ("route", "write"), WRITES, ids=[route.replace(UPLOAD, "u") for route, _ in WRITES]
)
reads = pytest.mark.parametrize(
    ("route", "good", "read"), READS, ids=[row[0].replace(UPLOAD, "u") for row in READS]
)


class Renewable:
    """Tokens ``t1``, ``t2`` …, a new one each time one is refused."""

    def __init__(self) -> None:
        self.number = 1

    def watch(self, watcher: Callable[[str], None]) -> None:
        watcher("t1")

    def token(self) -> str:
        return f"t{self.number}"

    def renew(self, refused: str) -> str:
        self.number += 1
        return self.token()

    def user_id(self) -> str | None:
        return USER


def success(seen: Seen) -> Reply:
    return envelope(SET, 201) if seen.path.endswith("/data_sets") else envelope([])


# ---------------------------------------------------------------------- writes: sent once


@writes
def test_a_write_goes_where_the_contract_says(
    wire: Wire, talk: Talk, route: str, write: Callable[..., Any]
) -> None:
    wire.answer = success
    write(talk())
    (seen,) = wire.seen
    assert seen.route == route
    assert seen.token == "fixed"
    assert seen.query == {}


@writes
@pytest.mark.parametrize(
    "reply",
    [
        Reply(reset=True),
        Reply(500),
        Reply(502),
        Reply(503),
        Reply(504),
        Reply(wait=NEVER),
        Reply(200, b"[]x", cut_at=1),
    ],
    ids=["reset", "500", "502", "503", "504", "hang", "cut"],
)
def test_a_write_in_doubt_is_never_sent_again(
    wire: Wire, talk: Talk, route: str, write: Callable[..., Any], reply: Reply, pauses: list[float]
) -> None:
    wire.always(reply)
    with pytest.raises(TidepoolUnreachableError) as caught:
        write(talk(read_timeout=0.2))
    assert caught.value.in_doubt
    until(lambda: wire.seen)  # it may have been given up before it was read
    assert len(wire.seen) == 1
    assert pauses == []


@writes
def test_a_busy_answer_goes_up_at_once(wire: Wire, talk: Talk, route: str, write: Callable[..., Any]) -> None:
    wire.always(handler_error(429, "too-many-requests", **{"Retry-After": "2"}))
    with pytest.raises(TidepoolBusyError) as caught:
        write(talk())
    assert caught.value.retry_after == 2.0
    assert len(wire.seen) == 1


@writes
def test_a_refused_token_is_renewed_once(
    wire: Wire, talk: Talk, route: str, write: Callable[..., Any]
) -> None:
    wire.answer = lambda seen: UNAUTHENTICATED if seen.token == "t1" else success(seen)
    write(talk(Renewable()))
    assert [seen.token for seen in wire.seen] == ["t1", "t2"]
    assert wire.seen[0].body == wire.seen[1].body


@writes
def test_a_token_refused_twice_is_an_error(
    wire: Wire, talk: Talk, route: str, write: Callable[..., Any]
) -> None:
    wire.always(UNAUTHENTICATED)
    with pytest.raises(TidepoolAuthenticationError):
        write(talk(Renewable()))
    assert len(wire.seen) == 2


@writes
def test_a_claim_of_success_must_be_the_platforms(
    wire: Wire, talk: Talk, route: str, write: Callable[..., Any]
) -> None:
    for body in (b"<html>Please log in</html>", b"", b"[]", b"{}"):
        wire.always(Reply(200, body))
        with pytest.raises(TidepoolUnreachableError) as caught:
            write(talk())
        assert caught.value.in_doubt


@writes
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (handler_error(403, "unauthorized"), TidepoolPermissionError),
        (handler_error(404, "data-set-id-not-found"), TidepoolNotFoundError),
        (handler_error(409, "data-set-closed"), TidepoolDataSetClosedError),
        (handler_error(400, "json-malformed"), TidepoolRejectedError),
    ],
)
def test_a_refusal_is_typed_and_final(
    wire: Wire, talk: Talk, route: str, write: Callable[..., Any], reply: Reply, kind: type[TidepoolError]
) -> None:
    wire.always(reply)
    with pytest.raises(kind):
        write(talk(Renewable()))
    assert len(wire.seen) == 1


# ---------------------------------------------------------------------- reads: tried again


@reads
def test_a_read_is_tried_again(
    wire: Wire, talk: Talk, route: str, good: Reply, read: Callable[..., Any], pauses: list[float]
) -> None:
    wire.in_turn(Reply(reset=True), Reply(503), handler_error(429, "too-many-requests"), good)
    assert read(talk())
    assert [seen.route for seen in wire.seen] == [route] * 4
    assert len(pauses) == 3


@reads
def test_a_read_gives_up_without_a_doubt(
    wire: Wire, talk: Talk, route: str, good: Reply, read: Callable[..., Any]
) -> None:
    wire.always(Reply(502, b"<html>"))
    with pytest.raises(TidepoolUnreachableError) as caught:
        read(talk())
    assert not caught.value.in_doubt
    assert len(wire.seen) == 4


@reads
def test_a_reads_token_is_renewed_once(
    wire: Wire, talk: Talk, route: str, good: Reply, read: Callable[..., Any]
) -> None:
    wire.answer = lambda seen: UNAUTHENTICATED if seen.token == "t1" else good
    tokens = Renewable()
    tokens.user_id = lambda: None  # type: ignore[method-assign]
    assert read(talk(tokens))
    assert [seen.token for seen in wire.seen] == ["t1", "t2"]


@reads
@pytest.mark.parametrize("body", [b"<html>", b"7", b'{"Error": 1}'])
def test_an_odd_answer_is_an_error(
    wire: Wire, talk: Talk, route: str, good: Reply, read: Callable[..., Any], body: bytes
) -> None:
    wire.always(Reply(200, body))
    with pytest.raises((TidepoolUnexpectedAnswerError, TidepoolUnreachableError)) as caught:
        read(talk())
    assert not getattr(caught.value, "in_doubt", False)


# ---------------------------------------------------------------------- data sets


def test_open_data_set(wire: Wire, talk: Talk) -> None:
    wire.always(envelope(SET, 201))
    body = {"deviceId": "d\ud800", "client": {"name": "n"}}
    opened = talk().open_data_set(USER, body)
    assert json.loads(wire.seen[0].body) == body
    assert opened == DataSet(
        data_set_id=UPLOAD,
        id=UPLOAD,
        data_set_type="normal",
        deduplicator="org.tidepool.deduplicator.device.deactivate.hash",
        device_id=CANARY,
        client_name="org.example.ingest",
        created_time=datetime(2026, 7, 20, 10, 11, 12, 345000, tzinfo=UTC),
    )
    assert CANARY not in repr(opened)


@pytest.mark.parametrize(
    "answer", [{"data": {}}, {"data": {"uploadId": "../x"}}, {"data": {"uploadId": 7}}, {"data": [SET]}]
)
def test_a_created_set_without_a_usable_id_is_in_doubt(wire: Wire, talk: Talk, answer: object) -> None:
    wire.always(Reply(201, answer))
    with pytest.raises(TidepoolUnreachableError, match="describes no data set") as caught:
        talk().open_data_set(USER, {})
    assert caught.value.in_doubt


def test_a_body_that_is_not_json_is_not_sent(wire: Wire, talk: Talk) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        talk().open_data_set(USER, {"x": float("nan")})
    for body in (b"", b"{}", b" null"):
        with pytest.raises(ValueError, match="JSON array"):
            talk().upload_data(UPLOAD, body)
    assert wire.seen == []


def test_records_go_byte_for_byte(wire: Wire, talk: Talk) -> None:
    wire.always(envelope([]))
    body = '\n[ {"value": 5.50, "é": "\\u00e9", "twice": 1, "twice": 2} ]'.encode()
    talk().upload_data(UPLOAD, body)
    assert wire.seen[0].body == body
    assert wire.seen[0].headers["Content-Type"] == "application/json"
    assert "Content-Encoding" not in wire.seen[0].headers


def test_rejected_records_are_named_by_position(wire: Wire, talk: Talk) -> None:
    one = {
        "code": "value-out-of-range",
        "detail": CANARY,
        "source": {"pointer": "/17/value"},
        "meta": {"type": "cbg"},
    }
    wire.always(Reply(400, one))
    with pytest.raises(TidepoolRejectedError) as caught:
        talk().upload_data(UPLOAD, b"[]")
    assert caught.value.problems == (Problem(17, "value-out-of-range", "/value"),)
    assert f"data set {UPLOAD}" in str(caught.value)


@pytest.mark.parametrize(
    "selectors",
    [[], [{}], [{"id": "a"}, {"origin": {"id": "b"}}], [{"id": "a", "origin": {}}], [{"other": 1}]],
)
def test_selectors_the_platform_would_choke_on_are_not_sent(
    wire: Wire, talk: Talk, selectors: list[Any]
) -> None:
    with pytest.raises(ValueError, match="selector"):
        talk().delete_data(UPLOAD, selectors)
    assert wire.seen == []


def test_selectors(wire: Wire, talk: Talk) -> None:
    wire.always(envelope([]))
    for selectors in (
        [{"id": "a"}, {"id": "b"}],
        [{"origin": {"id": "a"}}],
        [{"deduplicator": {"hash": "h"}}],
    ):
        talk().delete_data(UPLOAD, selectors)
        assert json.loads(wire.seen[-1].body) == selectors


def test_close_says_what_it_does(wire: Wire, talk: Talk) -> None:
    wire.always(envelope(SET))
    talk().close_data_set(UPLOAD)
    assert json.loads(wire.seen[0].body) == {"dataState": "closed"}


def test_is_open(wire: Wire, talk: Talk) -> None:
    wire.in_turn(
        envelope([]), handler_error(409, "data-set-closed"), handler_error(404, "data-set-id-not-found")
    )
    client = talk()
    assert client.is_open(UPLOAD)
    assert not client.is_open(UPLOAD)
    with pytest.raises(TidepoolNotFoundError):
        client.is_open(UPLOAD)
    assert [seen.body for seen in wire.seen] == [b"[]"] * 3


@pytest.mark.parametrize(
    "reply", [Reply(409, b"<html>"), Reply(404, b"<html>"), Reply(404, {"Error": "Resource not found"})]
)
def test_only_the_platforms_own_word_counts(wire: Wire, talk: Talk, reply: Reply) -> None:
    wire.always(reply)
    with pytest.raises((TidepoolUnreachableError, TidepoolUnexpectedAnswerError)):
        talk().is_open(UPLOAD)


def test_data_sets_are_paged_until_a_short_page(wire: Wire, talk: Talk) -> None:
    ids = [f"{number:032x}" for number in range(5)]
    # One appears twice: a set was created between the pages, and moved the others on.
    listed = [ids[0], ids[1], ids[1], ids[2], ids[3]]

    def page(seen: Seen) -> Reply:
        at, size = int(seen.query["page"][0]), int(seen.query["size"][0])
        return Reply(200, [{**SET, "uploadId": each} for each in listed[at * size : (at + 1) * size]])

    wire.answer = page
    found = list(talk().data_sets(USER, client_name="org.example", device_id="d 1", page_size=2))
    assert [each.data_set_id for each in found] == ids[:4]
    assert [seen.query["page"] for seen in wire.seen] == [["0"], ["1"], ["2"]]
    assert wire.seen[0].query["client.name"] == ["org.example"]
    assert wire.seen[0].query["deviceId"] == ["d 1"]
    assert "deleted" not in wire.seen[0].query


def test_a_full_last_page_is_followed_by_an_empty_one(wire: Wire, talk: Talk) -> None:
    wire.in_turn(Reply(200, [SET]), Reply(200, []))
    assert len(list(talk().data_sets(USER, page_size=1, include_deleted=True))) == 1
    assert len(wire.seen) == 2
    assert wire.seen[0].query["deleted"] == ["true"]


def test_get_data_set(wire: Wire, talk: Talk) -> None:
    wire.always(Reply(200, {"uploadId": UPLOAD, "id": "x", "deletedTime": "2026-01-01T00:00:00Z"}))
    assert talk().get_data_set(UPLOAD) == DataSet(UPLOAD, "x", "normal", deleted=True)


def test_nanoseconds_are_no_obstacle() -> None:
    found = DataSet.parse({**SET, "createdTime": "2026-07-20T10:11:12.123456789Z"})
    assert found is not None
    assert found.created_time == datetime(2026, 7, 20, 10, 11, 12, 123456, tzinfo=UTC)


def test_a_data_sets_own_record_in_a_read_back() -> None:
    record = {**SET, "_state": "closed", "_deduplicator": SET["deduplicator"]}
    del record["deduplicator"], record["createdTime"]
    found = DataSet.parse(record)
    assert found is not None
    assert (found.state, found.deduplicator[-4:], found.created_time) == ("closed", "hash", None)
    assert DataSet.parse({"createdTime": "yesterday", "uploadId": UPLOAD}) is None


@pytest.mark.parametrize("data_set_id", ["", "../users", "a/b", "a?b", "é", "a" * 65, "a\r\nb"])
def test_an_upload_id_cannot_change_the_route(wire: Wire, talk: Talk, data_set_id: str) -> None:
    for use in (
        lambda client: client.delete_data_set(data_set_id),
        lambda client: list(client.read_data(USER, data_set_id=data_set_id)),
    ):
        with pytest.raises(TidepoolConfigurationError):
            use(talk())
    assert wire.seen == []


@pytest.mark.parametrize(
    "user_id", ["", CANARY, "../x", "12345678901", "ABCDEF0123", f"{USER}/", f"{USER}\n"]
)
def test_a_user_id_is_the_platforms(wire: Wire, talk: Talk, user_id: str) -> None:
    with pytest.raises(TidepoolConfigurationError, match="ten hex digits") as caught:
        talk().open_data_set(user_id, {})
    assert CANARY not in str(caught.value)
    assert wire.seen == []


# ---------------------------------------------------------------------- the account


def test_who_am_i_by_the_token(wire: Wire, talk: Talk) -> None:
    uuid = "6f1d7e7a-8f0a-4a0e-9d5c-0d6f9f3c2b1a"
    assert talk(FixedToken(jwt(sub=uuid))).who_am_i() == uuid
    assert wire.seen == []


def test_who_am_i_by_asking_once(wire: Wire, talk: Talk) -> None:
    wire.by_route({"GET /auth/user": Reply(200, {"userid": USER, "username": CANARY})})
    client = talk(FixedToken(jwt(sub="f:not-a-user:7")))
    assert (client.who_am_i(), client.who_am_i()) == (USER, USER)
    assert len(wire.seen) == 1


@pytest.mark.parametrize(
    ("permissions", "may"),
    [
        ({"upload": {}, "view": {}}, True),
        ({"root": {}}, True),
        ({"view": {}}, False),
        ({"custodian": {}}, False),
        ({}, False),
        (None, False),
    ],
)
def test_may_upload_for_another(wire: Wire, talk: Talk, permissions: object, may: bool) -> None:
    listed = [
        {"userid": "ffffffffff", "trustorPermissions": {"upload": {}}},
        {"userid": OTHER_USER, "trustorPermissions": permissions},
    ]
    wire.by_route({f"GET /metadata/users/{USER}/users": Reply(200, listed)})
    assert talk(Renewable()).may_upload_for(OTHER_USER) is may


def test_may_upload_for_nobody_else_and_for_oneself(wire: Wire, talk: Talk) -> None:
    wire.by_route({f"GET /metadata/users/{USER}/users": Reply(200, [])})
    client = talk(Renewable())
    assert not client.may_upload_for(OTHER_USER)
    assert client.may_upload_for(USER)
    assert len(wire.seen) == 1


def test_for_whom_it_may_upload(wire: Wire, talk: Talk) -> None:
    listed = [
        {"userid": OTHER_USER, "trustorPermissions": {"upload": {}, "view": {}}},
        {"userid": "ffffffffff", "trustorPermissions": {"view": {}}},
        {"userid": "eeeeeeeeee", "trusteePermissions": {"upload": {}}},
    ]
    wire.by_route({f"GET /metadata/users/{USER}/users": Reply(200, listed)})
    assert talk(Renewable()).uploads_for() == {OTHER_USER}


def test_tokens_are_told_before_anything_is_sent(wire: Wire, talk: Talk) -> None:
    told: list[str] = []
    talk(Renewable(), on_token=told.append)
    assert told == ["t1"]


# ---------------------------------------------------------------------- read-back


def test_read_data_asks_for_what_is_wanted(wire: Wire, talk: Talk) -> None:
    wire.always(Reply(200, []))
    start = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    client = talk()
    assert (
        list(client.read_data(USER, data_set_id=UPLOAD, types=("cbg", "upload"), start=start, end=start))
        == []
    )
    assert wire.seen[0].query == {
        "uploadId": [UPLOAD],
        "type": ["cbg,upload"],
        "startDate": ["2026-01-02T01:04:05Z"],
        "endDate": ["2026-01-02T01:04:05Z"],
    }
    list(client.read_data(USER))
    assert wire.seen[1].query == {"carelink": ["true"], "cbgFilter": ["false"], "medtronic": ["true"]}
    with pytest.raises(ValueError, match="time zone"):
        client.read_data(USER, start=datetime(2026, 1, 1))


@pytest.mark.parametrize("packed", [False, True])
def test_read_data_streams(wire: Wire, talk: Talk, packed: bool) -> None:
    records = [{"type": "cbg", "value": number / 7, "note": "é" * 30} for number in range(5000)]
    body = json.dumps(records, ensure_ascii=False).encode()
    wire.always(Reply(200, gzip.compress(body), {"Content-Encoding": "gzip"}) if packed else Reply(200, body))
    assert list(talk().read_data(USER)) == records


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("lie", [False, True], ids=["reset", "shorter than promised"])
def test_a_cut_body_is_never_a_shorter_answer(wire: Wire, talk: Talk, packed: bool, lie: bool) -> None:
    body = json.dumps([{"n": n} for n in range(1000)]).encode()
    whole, headers = (gzip.compress(body), {"Content-Encoding": "gzip"}) if packed else (body, {})
    for end in (1, len(whole) // 2, len(whole) - 1):
        if lie:
            wire.always(Reply(200, whole[:end], headers))
        else:
            wire.always(Reply(200, whole, headers, cut_at=end))
        with pytest.raises(TidepoolUnreachableError) as caught:
            list(talk().read_data(USER))
        assert not caught.value.in_doubt


def test_a_slow_reader_is_not_blamed_on_the_server(
    wire: Wire, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(exchange, "time", clock)
    body = json.dumps([{"n": "x" * 1000} for n in range(1000)]).encode()
    wire.always(Reply(200, body))
    stream = talk(read_back_timeouts=HttpTimeouts(total=1.0)).read_data(USER)
    next(stream)
    clock.sleep(1.2)
    assert sum(1 for _ in stream) == 999


def test_a_read_back_may_take_longer_to_begin_than_other_answers(wire: Wire, talk: Talk) -> None:
    wire.always(Reply(200, b"[]", wait=0.4))
    assert list(talk(read_timeout=0.1).read_data(USER)) == []


def test_a_403_may_mean_that_the_token_has_ended(wire: Wire, talk: Talk) -> None:
    refused = Reply(403, {"status": 403, "id": CANARY, "code": "data_cant_view", "message": CANARY})
    wire.answer = lambda seen: refused if seen.token == "t1" else Reply(200, [])
    tokens = Renewable()
    assert list(talk(tokens).read_data(USER)) == []
    wire.always(refused)
    with pytest.raises(TidepoolPermissionError):
        list(talk(tokens).read_data(USER))
    assert len(wire.seen) == 4


def test_a_403_with_a_token_that_cannot_be_renewed_is_about_permission(wire: Wire, talk: Talk) -> None:
    wire.always(Reply(403, {"status": 403, "code": "data_cant_view"}))
    with pytest.raises(TidepoolPermissionError):
        list(talk().read_data(USER))


def test_a_reader_that_stops_early_leaves_nothing_open(wire: Wire, talk: Talk) -> None:
    wire.always(Reply(200, json.dumps([{"n": "x" * 1000} for n in range(5000)]).encode()))
    client = talk()
    stream = client.read_data(USER)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert len(list(client.read_data(USER))) == 5000


# ---------------------------------------------------------------------- privacy


def test_nothing_private_in_errors_logs_and_tracebacks(
    wire: Wire, talk: Talk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wire.by_route({})
    tokens = FixedToken(f"token-{CANARY}")
    texts: list[str] = []
    replies = [
        handler_error(400, "json-malformed"),
        handler_error(403, "unauthorized"),
        handler_error(500, "internal-server-failure"),
        Reply(400, {"code": "x", "detail": CANARY, "source": {"pointer": f"/1/basalSchedules/{CANARY}/0"}}),
        Reply(200, f"<html>{CANARY}".encode()),
        Reply(200, f'[{{"note": "{CANARY}'.encode()),
        Reply(302, b"", {"Location": f"https://{CANARY}.org"}),
        Reply(429, CANARY.encode(), {"Retry-After": CANARY}),
        Reply(500, CANARY.encode(), {"X-Tidepool-Trace-Request": f"{CANARY}!"}),
        Reply(reset=True),
        UNAUTHENTICATED,
    ]
    for reply in replies:
        wire.always(reply)
        client = talk(tokens)
        for use in [write for _, write in WRITES] + [read for _, _, read in READS]:
            with pytest.raises(TidepoolError) as caught:
                use(client)
            error = caught.value
            texts += [
                str(error),
                repr(error),
                repr(pickle.dumps(error)),
                "".join(traceback.format_exception(error)),
            ]
    shown = "\n".join(texts)
    assert CANARY not in shown + caplog.text
    assert USER not in shown + caplog.text
    assert short_hash(USER) in caplog.text
    assert UPLOAD in caplog.text
