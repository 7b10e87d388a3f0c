"""The client against the simulated Platform over real HTTP: two sides of one wire that share no code."""

from __future__ import annotations

import itertools
import json
import logging
import pickle
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.factories import refresh_token
from tests.timing import PATIENCE_SECONDS, clock_of_tokens, until
from tidepool_ingest.client import (
    BackOff,
    ClientSettings,
    FixedToken,
    MemoryRefreshTokenStore,
    TidepoolAuthenticationError,
    TidepoolBusyError,
    TidepoolClient,
    TidepoolDataSetClosedError,
    TidepoolError,
    TidepoolNotFoundError,
    TidepoolPermissionError,
    TidepoolRejectedError,
    TidepoolUnreachableError,
    connect,
)
from tidepool_ingest.client.transport import HttpTimeouts

from .wire import CANARY

simulator_package = pytest.importorskip("tidepool_simulator")
Simulator, Fault = simulator_package.Simulator, simulator_package.Fault

HASH = "org.tidepool.deduplicator.device.deactivate.hash"
ORIGIN = "org.tidepool.deduplicator.dataset.delete.origin"
QUICK = BackOff(first=0.01)
NUMBERS = itertools.count(1)
NOWHERE = "f" * 32


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    with Simulator() as started:
        yield started


@pytest.fixture
def simulator(running: Any) -> Iterator[Any]:
    yield running
    running.faults.clear()
    running.faults.counts.clear()


@pytest.fixture
def patient(simulator: Any) -> Any:
    """Somebody without data yet, for whom ``uploader`` and ``service`` may upload."""
    account = simulator.accounts.add_user(f"patient-{next(NUMBERS)}")
    for uploader in ("uploader", "service"):
        simulator.accounts.grant(uploader, of=account.name)
    return account


@pytest.fixture
def owner(patient: Any) -> str:
    return str(patient.id)


@pytest.fixture
def client(simulator: Any) -> Iterator[TidepoolClient]:
    tokens = FixedToken(simulator.accounts["uploader"].token)
    with TidepoolClient(simulator.base_url, tokens, read_timeout=5.0, backoff=QUICK) as made:
        yield made


def body(device: str = "device-1", **more: Any) -> dict[str, Any]:
    about = {"name": "org.example.ingest", "version": "1.0.0"}
    return {"deviceId": device, "client": about, "deduplicator": {"name": HASH}, **more}


def readings(count: int, first: int = 0) -> list[dict[str, Any]]:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        {
            "type": "cbg",
            "time": f"{start + timedelta(minutes=5 * number):%Y-%m-%dT%H:%M:%SZ}",
            "deviceId": "device-1",
            "units": "mmol/L",
            "value": 5.5,
            "id": f"{number:032x}",
        }
        for number in range(first, first + count)
    ]


def text(records: list[dict[str, Any]]) -> bytes:
    return json.dumps(records).encode()


def visible(client: TidepoolClient, user: str, data_set_id: str) -> list[str]:
    shown = client.read_data(user, data_set_id=data_set_id)
    return sorted(record["id"] for record in shown if record["type"] != "upload")


def settings(simulator: Any, mode: str, **more: Any) -> ClientSettings:
    return ClientSettings.of({"environment": simulator.base_url, "auth_mode": mode, **more})


# ---------------------------------------------------------------------- the life of a data set


def test_a_data_set_from_open_to_deleted(client: TidepoolClient, owner: str) -> None:
    opened = client.open_data_set(owner, body())
    assert (opened.deduplicator, opened.device_id, opened.data_set_type) == (HASH, "device-1", "normal")
    assert opened.created_time is not None
    client.upload_data(opened.data_set_id, text(readings(100)))
    assert client.is_open(opened.data_set_id)
    assert list(client.data_sets(owner)) == []
    assert visible(client, owner, opened.data_set_id) == []
    client.close_data_set(opened.data_set_id)
    assert not client.is_open(opened.data_set_id)
    assert visible(client, owner, opened.data_set_id) == [record["id"] for record in readings(100)]
    assert [each.data_set_id for each in client.data_sets(owner, device_id="device-1")] == [
        opened.data_set_id
    ]
    (upload,) = client.read_data(owner, data_set_id=opened.data_set_id, types=("upload",))
    assert upload["_state"] == "closed"
    for use in (client.close_data_set, lambda one: client.upload_data(one, b"[]")):
        with pytest.raises(TidepoolDataSetClosedError):
            use(opened.data_set_id)
    client.delete_data_set(opened.data_set_id)
    client.delete_data_set(opened.data_set_id)
    assert visible(client, owner, opened.data_set_id) == []
    assert list(client.data_sets(owner)) == []
    assert [each.deleted for each in client.data_sets(owner, include_deleted=True)] == [True]


def test_a_chunk_in_doubt_can_be_removed_and_sent_again(client: TidepoolClient, owner: str) -> None:
    data_set_id = client.open_data_set(owner, body()).data_set_id
    records = readings(10)
    client.upload_data(data_set_id, text(records))
    client.upload_data(data_set_id, text(records))
    client.delete_data(data_set_id, [{"id": record["id"]} for record in records])
    client.upload_data(data_set_id, text(records))
    client.close_data_set(data_set_id)
    assert visible(client, owner, data_set_id) == [record["id"] for record in records]


def test_many_data_sets_are_paged(client: TidepoolClient, owner: str) -> None:
    more: dict[str, Any] = {"dataSetType": "continuous", "deduplicator": {"name": ORIGIN}}
    made = {client.open_data_set(owner, body(**more)).data_set_id for _ in range(7)}
    listed = [
        each.data_set_id for each in client.data_sets(owner, client_name="org.example.ingest", page_size=3)
    ]
    assert set(listed) == made
    assert len(listed) == 7


def test_read_back_by_type_and_time(client: TidepoolClient, owner: str) -> None:
    data_set_id = client.open_data_set(owner, body()).data_set_id
    client.upload_data(data_set_id, text(readings(24)))
    client.close_data_set(data_set_id)
    start = datetime(2026, 1, 1, 1, tzinfo=UTC)
    assert len(list(client.read_data(owner, types=("cbg",), start=start))) == 12
    assert len(list(client.read_data(owner, types=("smbg", "bolus")))) == 0


def test_get_is_for_the_owner_alone(simulator: Any, client: TidepoolClient, patient: Any) -> None:
    data_set_id = client.open_data_set(patient.id, body()).data_set_id
    with pytest.raises(TidepoolPermissionError):
        client.get_data_set(data_set_id)
    owners = TidepoolClient(simulator.base_url, FixedToken(patient.token))
    assert owners.get_data_set(data_set_id).data_set_id == data_set_id
    owners.close()


# ---------------------------------------------------------------------- errors


def test_rejected_records(client: TidepoolClient, owner: str) -> None:
    data_set_id = client.open_data_set(owner, body()).data_set_id
    records = readings(5)
    records[3]["value"] = 99.5
    with pytest.raises(TidepoolRejectedError) as one:
        client.upload_data(data_set_id, text(records))
    assert one.value.problems == ((3, "value-out-of-range", "/value"),)
    records[1]["units"] = "pounds"
    del records[4]["time"]
    with pytest.raises(TidepoolRejectedError) as several:
        client.upload_data(data_set_id, text(records))
    assert several.value.indexes == {1, 3, 4}
    with pytest.raises(TidepoolRejectedError) as broken:
        client.upload_data(data_set_id, b"[{]")
    assert broken.value.problems == ((None, "json-malformed", ""),)


def test_a_rejected_create_names_its_field(client: TidepoolClient, owner: str) -> None:
    with pytest.raises(TidepoolRejectedError) as caught:
        client.open_data_set(owner, body(deviceModel=7))
    assert caught.value.problems == ((None, "type-not-string", "/deviceModel"),)


def test_nobody_knows_the_data_set(client: TidepoolClient) -> None:
    for use in (
        client.is_open,
        client.get_data_set,
        client.close_data_set,
        client.delete_data_set,
        lambda one: client.upload_data(one, b"[]"),
        lambda one: client.delete_data(one, [{"id": "a"}]),
    ):
        with pytest.raises(TidepoolNotFoundError):
            use(NOWHERE)


def test_a_stranger_may_nothing(simulator: Any, client: TidepoolClient, owner: str) -> None:
    data_set_id = client.open_data_set(owner, body()).data_set_id
    stranger = TidepoolClient(
        simulator.base_url, FixedToken(simulator.accounts["stranger"].token), backoff=QUICK
    )
    for use in (
        lambda: stranger.open_data_set(owner, body()),
        lambda: stranger.upload_data(data_set_id, b"[]"),
        lambda: stranger.close_data_set(data_set_id),
        lambda: stranger.delete_data_set(data_set_id),
        lambda: list(stranger.data_sets(owner)),
        lambda: list(stranger.read_data(owner)),
    ):
        with pytest.raises(TidepoolPermissionError):
            use()
    assert not stranger.may_upload_for(owner)
    assert client.may_upload_for(owner)
    stranger.close()


def test_a_token_of_nobody(simulator: Any, owner: str) -> None:
    nobody = TidepoolClient(simulator.base_url, FixedToken("not-a-token"), backoff=QUICK)
    with pytest.raises(TidepoolAuthenticationError):
        nobody.open_data_set(owner, body())
    with pytest.raises(TidepoolPermissionError):
        list(nobody.read_data(owner))
    nobody.close()


WRITE_OPERATIONS = ["create", "post", "delete-data", "close", "delete"]


@pytest.mark.parametrize("operation", WRITE_OPERATIONS)
@pytest.mark.parametrize(
    "kind", ["lost request", "lost answer", "504 after", "partial", "502", "hang", "cut body", "reset body"]
)
def test_every_failed_write_is_in_doubt(
    simulator: Any, client: TidepoolClient, owner: str, operation: str, kind: str
) -> None:
    data_set_id = client.open_data_set(owner, body()).data_set_id
    faults: dict[str, Callable[[], Any]] = {
        "lost request": lambda: Fault.lost_request(operation),
        "lost answer": lambda: Fault.lost_answer(operation),
        "504 after": lambda: Fault.failed_after(operation),
        "partial": lambda: Fault.partial(operation),
        "502": lambda: Fault.refused(operation, 502),
        "hang": lambda: Fault.hang(operation),
        "cut body": lambda: Fault(operation=operation, answer="truncated-body"),
        "reset body": lambda: Fault(operation=operation, answer="reset-body"),
    }
    simulator.faults.add(faults[kind]())
    token = simulator.accounts["uploader"].token
    hasty = TidepoolClient(simulator.base_url, FixedToken(token), read_timeout=0.3 if kind == "hang" else 5.0)
    with pytest.raises(TidepoolUnreachableError) as caught:
        write(hasty, operation, owner, data_set_id)
    assert caught.value.in_doubt
    # The fault strikes once: had the request been sent again, it would have succeeded.
    until(lambda: simulator.faults.counts)  # it may have been given up before it was looked at
    assert sum(simulator.faults.counts.values()) == 1
    hasty.close()


def write(client: TidepoolClient, operation: str, owner: str, data_set_id: str) -> None:
    writes: dict[str, Callable[[], object]] = {
        "create": lambda: client.open_data_set(owner, body()),
        "post": lambda: client.upload_data(data_set_id, text(readings(3))),
        "delete-data": lambda: client.delete_data(data_set_id, [{"id": readings(1)[0]["id"]}]),
        "close": lambda: client.close_data_set(data_set_id),
        "delete": lambda: client.delete_data_set(data_set_id),
    }
    writes[operation]()


@pytest.mark.parametrize("operation", WRITE_OPERATIONS)
def test_busy_and_away(simulator: Any, client: TidepoolClient, owner: str, operation: str) -> None:
    data_set_id = client.open_data_set(owner, body()).data_set_id
    simulator.faults.add(
        Fault.refused(operation, 429, retry_after="3"),
        Fault.refused(operation, 429),
        Fault.refused(operation, 503, retry_after="4"),
    )
    kinds: list[tuple[type[TidepoolBusyError] | type[TidepoolUnreachableError], float | None]] = [
        (TidepoolBusyError, 3.0),
        (TidepoolBusyError, None),
        (TidepoolUnreachableError, 4.0),
    ]
    for kind, pause in kinds:
        with pytest.raises(kind) as caught:
            write(client, operation, owner, data_set_id)
        assert vars(caught.value)["retry_after"] == pause
    write(client, operation, owner, data_set_id)


def test_reads_survive_a_bad_minute(simulator: Any, client: TidepoolClient, owner: str) -> None:
    data_set_id = client.open_data_set(owner, body()).data_set_id
    client.upload_data(data_set_id, text(readings(3)))
    for operation in ("list", "read-back", "post"):
        simulator.faults.add(
            Fault.lost_request(operation), Fault.refused(operation, 503), Fault.refused(operation, 429)
        )
    assert client.is_open(data_set_id)
    client.close_data_set(data_set_id)
    assert len(visible(client, owner, data_set_id)) == 3
    assert len(list(client.data_sets(owner))) == 1
    assert sum(simulator.faults.counts.values()) == 9


@pytest.mark.parametrize("answer", ["truncated-body", "reset-body"])
def test_a_cut_read_back_is_no_shorter_one(
    simulator: Any, client: TidepoolClient, owner: str, answer: str
) -> None:
    data_set_id = client.open_data_set(owner, body()).data_set_id
    client.upload_data(data_set_id, text(readings(500)))
    client.close_data_set(data_set_id)
    simulator.faults.add(Fault(operation="read-back", answer=answer))
    with pytest.raises(TidepoolUnreachableError):
        visible(client, owner, data_set_id)
    assert len(visible(client, owner, data_set_id)) == 500


def test_a_slow_read_back_is_bounded(simulator: Any, client: TidepoolClient, owner: str) -> None:
    data_set_id = client.open_data_set(owner, body()).data_set_id
    client.upload_data(data_set_id, text(readings(50)))
    client.close_data_set(data_set_id)
    simulator.faults.add(Fault(operation="read-back", answer="slow-body", delay=20.0, times=None))
    hasty = TidepoolClient(
        simulator.base_url,
        FixedToken(simulator.accounts["uploader"].token),
        read_back_timeouts=HttpTimeouts(read=10.0, total=0.4),
    )
    started = time.monotonic()
    with pytest.raises(TidepoolUnreachableError, match="slow"):
        visible(hasty, owner, data_set_id)
    assert time.monotonic() - started < 10.0
    hasty.close()


# ---------------------------------------------------------------------- tokens


def connected(simulator: Any, mode: str, **more: Any) -> TidepoolClient:
    account = simulator.accounts["uploader"]
    public = {"client_id": simulator_package.PUBLIC_CLIENT_ID}
    login = {"username": account.username, "password": account.password}
    private = {"client_id": simulator_package.CLIENT_ID, "client_secret": simulator_package.CLIENT_SECRET}
    values: dict[str, str] = {
        "client_credentials": lambda: private,
        "password": lambda: {**public, **login},
        "login": lambda: login,
        "token": lambda: {"token": account.token},
        "refresh_token": lambda: {**public, "refresh_token": refresh_token(simulator)},
    }[mode]()
    return connect(settings(simulator, mode, **values), backoff=QUICK, **more)


LIFETIME = 60.0
"""Seconds that a token lives where one ends while it is used."""

SHARES = (0.5, 0.4, 1.1, 0.9, 1.1, 1.1, 0.9, 1.1)
"""How much of a token's life passes in each round: it is due, or it has ended."""

SENDERS = 4

MODES = ["client_credentials", "password", "login", "token", "refresh_token"]


@pytest.mark.parametrize("mode", MODES)
def test_every_auth_mode(simulator: Any, owner: str, mode: str) -> None:
    with connected(simulator, mode) as client:
        data_set_id = client.open_data_set(owner, body()).data_set_id
        client.upload_data(data_set_id, text(readings(3)))
        client.close_data_set(data_set_id)
        assert len(visible(client, owner, data_set_id)) == 3
        expected = "service" if mode == "client_credentials" else "uploader"
        assert client.who_am_i() == simulator.accounts[expected].id
        assert client.may_upload_for(owner)
        assert not client.may_upload_for(simulator.accounts["stranger"].id)


@pytest.mark.parametrize(
    ("mode", "rotate"),
    [
        ("client_credentials", False),
        ("password", True),
        ("login", False),
        ("refresh_token", False),
        ("refresh_token", True),
    ],
)
def test_tokens_end_in_the_middle_of_an_upload(
    mode: str, rotate: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = clock_of_tokens(monkeypatch)
    with Simulator(token_lifetime=LIFETIME, rotate_refresh_tokens=rotate) as simulator:
        owner = simulator.accounts["owner"].id
        with connected(simulator, mode) as client:
            data_set_id = client.open_data_set(owner, body()).data_set_id
            meeting = threading.Barrier(SENDERS, timeout=PATIENCE_SECONDS)

            def send(sender: int) -> None:
                for number, share in enumerate(SHARES):
                    meeting.wait()
                    if sender == 0:
                        clock.sleep(share * LIFETIME)  # while the requests of the others are in flight
                    first = 2 * (number * SENDERS + sender)
                    client.upload_data(data_set_id, text(readings(2, first=first)))

            with ThreadPoolExecutor(SENDERS) as pool:
                for future in [pool.submit(send, sender) for sender in range(SENDERS)]:
                    future.result()
            client.close_data_set(data_set_id)
            assert len(visible(client, owner, data_set_id)) == 2 * SENDERS * len(SHARES)


@pytest.mark.parametrize("mode", ["client_credentials", "password", "login", "refresh_token"])
def test_a_token_revoked_in_the_middle(simulator: Any, owner: str, mode: str) -> None:
    with connected(simulator, mode) as client:
        data_set_id = client.open_data_set(owner, body()).data_set_id
        for operation in ("post", "close", "read-back"):
            simulator.faults.add(Fault.refused(operation, 401))
        client.upload_data(data_set_id, text(readings(3)))
        client.close_data_set(data_set_id)
        assert len(visible(client, owner, data_set_id)) == 3
        assert sum(simulator.faults.counts.values()) == 3


def test_two_clients_share_a_rotating_refresh_token(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = clock_of_tokens(monkeypatch)
    with Simulator(token_lifetime=LIFETIME, rotate_refresh_tokens=True) as simulator:
        store = MemoryRefreshTokenStore()
        first = refresh_token(simulator)
        values = {"client_id": simulator_package.PUBLIC_CLIENT_ID, "refresh_token": first}
        clients = [
            connect(settings(simulator, "refresh_token", **values), refresh_tokens=store, backoff=QUICK)
            for _ in range(3)
        ]
        owner = simulator.accounts["owner"].id
        data_set_id = clients[0].open_data_set(owner, body()).data_set_id

        meeting = threading.Barrier(len(clients), timeout=PATIENCE_SECONDS)

        def work(client: TidepoolClient) -> None:
            for share in SHARES:
                meeting.wait()
                if client is clients[0]:
                    clock.sleep(share * LIFETIME)
                for _ in range(3):
                    assert client.is_open(data_set_id)

        with ThreadPoolExecutor(3) as pool:
            for future in [pool.submit(work, client) for client in clients]:
                future.result()
        for client in clients:
            client.close()


def test_the_sign_in_server_is_away_for_a_moment(simulator: Any, owner: str) -> None:
    for operation in ("info", "discovery", "token"):
        simulator.faults.add(Fault.refused(operation, 503), Fault.lost_answer(operation))
    with connected(simulator, "client_credentials") as client:
        assert client.open_data_set(owner, body())
    assert sum(simulator.faults.counts.values()) == 6


def test_wrong_credentials(simulator: Any, owner: str) -> None:
    wrong = [
        ("client_credentials", {"client_id": simulator_package.CLIENT_ID, "client_secret": CANARY}),
        (
            "password",
            {"client_id": simulator_package.PUBLIC_CLIENT_ID, "username": CANARY, "password": CANARY},
        ),
        ("login", {"username": CANARY, "password": CANARY}),
        ("refresh_token", {"client_id": simulator_package.PUBLIC_CLIENT_ID, "refresh_token": CANARY}),
        ("token", {"token": CANARY}),
    ]
    for mode, values in wrong:
        with connect(settings(simulator, mode, **values), backoff=QUICK) as client:
            with pytest.raises(TidepoolAuthenticationError) as caught:
                client.open_data_set(owner, body())
            assert CANARY not in "".join(traceback.format_exception(caught.value))


# ---------------------------------------------------------------------- privacy


def test_planted_values_never_show(simulator: Any, owner: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("tidepool_simulator", "asyncio", "uvicorn"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    told: list[str] = []
    found: list[TidepoolError] = []
    with connected(simulator, "login", on_token=told.append) as client:
        data_set_id = client.open_data_set(owner, body(device=CANARY)).data_set_id
        schedules = {CANARY: [{"start": 5, "rate": 1.0}]}
        pump = {
            "type": "pumpSettings",
            "time": "2026-01-01T00:00:00Z",
            "deviceId": CANARY,
            "basalSchedules": schedules,
        }
        for record in (
            {**readings(1)[0], "value": CANARY},
            {**readings(1)[0], "units": CANARY, "deviceId": CANARY},
            {**readings(1)[0], "id": CANARY},
            {"type": CANARY, "time": CANARY},
            pump,
        ):
            with pytest.raises(TidepoolRejectedError) as caught:
                client.upload_data(data_set_id, text([record]))
            found.append(caught.value)
        with pytest.raises(TidepoolRejectedError) as create:
            client.open_data_set(owner, body(deviceTags=[CANARY]))
        found.append(create.value)
        list(client.data_sets(owner, device_id=CANARY, client_name=CANARY))
        list(client.read_data(owner))
        pointers = [
            each.pointer
            for error in found
            if isinstance(error, TidepoolRejectedError)
            for each in error.problems
        ]
        assert any(CANARY in pointer for pointer in pointers)
    shown = caplog.text
    for error in found:
        shown += (
            str(error) + repr(error) + repr(pickle.dumps(error)) + "".join(traceback.format_exception(error))
        )
    assert data_set_id in shown
    for secret in (CANARY, owner, simulator.accounts["uploader"].password, *told):
        assert secret not in shown
