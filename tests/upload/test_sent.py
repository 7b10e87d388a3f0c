"""What is sent to Tidepool: the staged bytes, an identifier each, and a data set that says who made it."""

from __future__ import annotations

import json
import re

from tests.factories import DEVICE, HASH, NONE, Record, alarm, bolus, cbg, readings, wizard
from tests.world import World
from tidepool_ingest.upload import data_set_body


def own_id(number: int) -> str:
    return f"{number:032x}"


INJECTED = re.compile(rb',"id":"[0-9a-f]{32}"|(?<={)"id":"[0-9a-f]{32}",')


def test_bodies_are_the_staged_bytes_and_an_id_each(world: World) -> None:
    records = [
        *readings(4),
        wizard(10),
        alarm(11),
        bolus(12, payload={"text": "é\u2028😀"}),
        json.dumps(cbg(13)).encode().replace(b"6.5", b"6.50"),
        b'{ "type" : "cbg", "value": 65e-1, "units":"mmol/L",  "deviceId":"device-1",'
        b' "time":"2026-03-01T00:14:00Z" }',
    ]
    number = world.ready(records, chunk_records=3)

    world.upload(number)

    lines = world.accepted(number)
    assert lines == [
        record if isinstance(record, bytes) else json.dumps(record).encode() for record in records
    ]
    bodies = [sent.body for sent in world.recorder.chunks]
    assert [INJECTED.sub(b"", body) for body in bodies] == [
        b"[" + b",".join(lines[start : start + 3]) + b"]" for start in (0, 3, 6)
    ]
    assert sum(len(INJECTED.findall(body)) for body in bodies) == len(records) + 2
    assert len(set(INJECTED.findall(b"".join(bodies)))) == len(records) + 2
    assert world.all_right()


def test_staged_ids_are_kept_and_missing_ones_given(world: World) -> None:
    number = world.ready(
        [
            cbg(1, id=own_id(1)),
            cbg(2),
            wizard(3, id=own_id(3)),
            wizard(4, bolus=bolus(4, id=own_id(4))),
            wizard(5, id=own_id(5), bolus=bolus(5, id=own_id(6))),
            alarm(7),
        ]
    )

    world.upload(number)

    shown: dict[tuple[str, str], Record] = {
        (datum["type"], datum["time"][14:16]): datum for datum in world.visible()
    }
    assert len(world.visible()) == 10
    assert shown["cbg", "01"]["id"] == own_id(1)
    assert shown["wizard", "03"]["id"] == own_id(3)
    assert shown["bolus", "04"]["id"] == own_id(4)
    assert (shown["wizard", "05"]["id"], shown["bolus", "05"]["id"]) == (own_id(5), own_id(6))
    for minute in ("03", "04", "05"):
        assert shown["wizard", minute]["bolus"] == shown["bolus", minute]["id"]
    events = [datum for datum in world.visible() if datum["type"] == "deviceEvent"]
    alarms = {datum["subType"]: datum for datum in events}
    assert alarms["alarm"]["status"] == alarms["status"]["id"]
    assert world.all_right()


def test_the_same_chunk_of_the_same_set_has_the_same_ids_and_another_set_others(world: World) -> None:
    number = world.ready([*readings(3), wizard(9)])
    world.upload(number)
    first = {datum["id"] for datum in world.visible()}

    world.upload(number, run="run-2", force=True)

    assert first.isdisjoint({datum["id"] for datum in world.visible()})


def test_the_data_set_says_who_made_it_and_names_its_deduplicator(world: World) -> None:
    number = world.ready(
        readings(2),
        data_set={"deviceManufacturers": ["Acme"], "deviceSerialNumber": "4711", "timezone": "UTC"},
    )

    world.upload(number)

    (create,) = [sent for sent in world.recorder.sent if sent.path.endswith("data_sets")]
    sent = json.loads(create.body)
    del sent["client"]["private"]  # the mark
    assert sent == {
        "dataSetType": "normal",
        "deviceId": DEVICE,
        "deviceModel": "Model 5",
        "deviceManufacturers": ["Acme"],
        "deviceSerialNumber": "4711",
        "timezone": "UTC",
        "client": {"name": "org.example.ingest", "version": "1.2.3"},
        "deduplicator": {"name": HASH},
    }


def test_the_manifest_may_name_client_and_deduplicator(world: World) -> None:
    said = {
        "client": {"name": "org.clinic.loader", "version": "9.0.0", "private": {"a": 1}},
        "deduplicator": {"name": NONE},
    }

    body = data_set_body({"deviceId": DEVICE, **said}, world.settings)

    assert body == {"dataSetType": "normal", "deviceId": DEVICE, **said}


def test_a_manifest_that_names_half_a_client_gets_the_other_half(world: World) -> None:
    body = data_set_body({"client": {"name": "org.clinic.loader"}, "deduplicator": None}, world.settings)

    assert body["client"] == {"name": "org.clinic.loader", "version": "1.2.3"}
    assert body["deduplicator"] == {"name": HASH}
