"""Each step of a data set's life by itself, as a DAG of one's own may use it."""

from __future__ import annotations

import json

import pytest

from tests.airflow.hook.connections import BODY, Connect, connection, readings, visible
from tidepool_ingest.client import TidepoolDataSetClosedError, TidepoolNotFoundError
from tidepool_ingest.staging.manifest_terms import DEFAULT_DEDUPLICATOR
from tidepool_simulator import Simulator


def test_opening_fills_in_client_and_deduplicator(simulator: Simulator, connect: Connect) -> None:
    owner = simulator.accounts["owner"].id
    hook = connect(connection(simulator, "token"))
    opened = hook.open_data_set(owner, BODY)
    hook.close_data_set(opened.data_set_id)
    (row,) = hook.read_data(owner, data_set_id=opened.data_set_id)

    assert row["client"] == {"name": "org.example.ingest", "version": "1.2.3"}
    assert (opened.deduplicator, opened.data_set_type) == (DEFAULT_DEDUPLICATOR, "normal")


def test_a_body_wins_over_the_connection(simulator: Simulator, connect: Connect) -> None:
    owner = simulator.accounts["owner"].id
    hook = connect(connection(simulator, "token"))
    body = {
        **BODY,
        "client": {"name": "org.example.other", "version": "9.9.9"},
        "deduplicator": {"name": "org.tidepool.deduplicator.none"},
    }
    opened = hook.open_data_set(owner, body)
    hook.close_data_set(opened.data_set_id)
    (row,) = hook.read_data(owner, data_set_id=opened.data_set_id)

    assert row["client"] == {"name": "org.example.other", "version": "9.9.9"}
    assert opened.deduplicator == "org.tidepool.deduplicator.none"


def test_an_open_data_set_shows_nothing_and_a_closed_one_takes_nothing(
    simulator: Simulator, connect: Connect
) -> None:
    owner = simulator.accounts["owner"].id
    hook = connect(connection(simulator, "token"))
    data_set_id = hook.open_data_set(owner, BODY).data_set_id
    hook.upload_data(data_set_id, readings(2))
    assert list(hook.read_data(owner, data_set_id=data_set_id)) == []
    hook.close_data_set(data_set_id)

    assert visible(hook, owner, data_set_id) == 2
    with pytest.raises(TidepoolDataSetClosedError):
        hook.upload_data(data_set_id, readings(2))


def test_records_are_removed_from_an_open_data_set(simulator: Simulator, connect: Connect) -> None:
    owner = simulator.accounts["owner"].id
    hook = connect(connection(simulator, "token"))
    data_set_id = hook.open_data_set(owner, BODY).data_set_id
    records = json.loads(readings(3))
    for number, record in enumerate(records):
        record["id"] = f"{number:032x}"
    hook.upload_data(data_set_id, json.dumps(records).encode())
    hook.delete_data(data_set_id, [{"id": records[1]["id"]}])
    hook.close_data_set(data_set_id)

    assert visible(hook, owner, data_set_id) == 2


def test_a_data_set_is_deleted_with_its_records(simulator: Simulator, connect: Connect) -> None:
    owner = simulator.accounts["owner"].id
    hook = connect(connection(simulator, "token"))
    data_set_id = hook.open_data_set(owner, BODY).data_set_id
    hook.upload_data(data_set_id, readings(2))
    hook.close_data_set(data_set_id)
    hook.delete_data_set(data_set_id)

    assert visible(hook, owner, data_set_id) == 0
    with pytest.raises(TidepoolNotFoundError):
        hook.close_data_set("upid_" + "f" * 32)
