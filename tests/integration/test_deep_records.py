"""Records that nest as deeply as the Platform reads go all the way, and those that nest deeper do not."""

from __future__ import annotations

import pytest

from tests.cli.commands import Run
from tests.factories import DEVICE, DROP_HASH, HASH, NONE, ORIGIN_OLDER, alarm, minute_of, readings, wizard
from tests.world import FeedWorld, World
from tidepool_ingest.deep_json import dumps
from tidepool_ingest.reports.dry_run import compare_batch

SMBG = '{"type":"smbg","time":"%s","deviceId":"%s","units":"mmol/L","value":6.5%s}'


def smbg(number: int, more: str = "", *, device: str = DEVICE) -> bytes:
    return (SMBG % (minute_of(number), device, more)).encode()


def arrays(levels: int) -> str:
    return "[" * levels + "]" * levels


def food(number: int, levels: int, *, more: str = "") -> bytes:
    inside = '"ingredients":[{"name":"a",' * levels + '"name":"b"' + "}]" * levels
    return f'{{"type":"food","time":"{minute_of(number)}","deviceId":"{DEVICE}",{inside}{more}}}'.encode()


DEEP = [
    smbg(1, f',"payload":{{"a":{arrays(2_040)}}}'),
    smbg(2, f',"dropped":{arrays(9_998)}'),
    smbg(3, f',"annotations":[{{"code":"x","deep":{arrays(1_000)}}}]'),
    food(4, 1_500),
]
SPELLED_OTHERWISE = smbg(1, f', "payload" : {{"\\u0061": {arrays(2_040)}}}')
TOO_LARGE = smbg(5, f',"payload":{{"a":{arrays(2_050)}}}')
TOO_DEEP = smbg(6, f',"dropped":{arrays(9_999)}')
ALL = [*readings(3, first=100), *DEEP, SPELLED_OTHERWISE, TOO_LARGE, TOO_DEEP, wizard(200), alarm(201)]
REFUSED = [(8, ["size-out-of-range"]), (9, ["staged-not-json"])]


@pytest.mark.parametrize(("deduplicator", "name"), [(HASH, "data.ndjson"), (NONE, "data.json")])
def test_they_are_uploaded_read_back_and_reverified(world: World, deduplicator: str, name: str) -> None:
    number = world.ready(
        ALL,
        name=name,
        data_set={"deduplicator": {"name": deduplicator}},
        max_quarantined_percent=50,
    )
    assert world.refused(number) == REFUSED
    assert world.row(number).identical == 1

    summary = world.upload(number)

    assert summary.visible_rows == summary.expected_rows == 11
    assert world.all_right()
    (shown,) = (row for row in world.visible() if row["time"] == minute_of(1))
    assert dumps(shown["payload"], separators=(",", ":")) == f'{{"a":{arrays(2_040)}}}'


def test_they_are_edited_cut_into_parts_and_compared(world: World) -> None:
    edits = {"set": {"payload": {"a": [1]}, "deviceId": DEVICE}, "drop": ["annotations"]}
    number = world.ready([*DEEP, wizard(200)], edits=edits, part_records=3, chunk_records=2)

    assert world.prepared(number).changes == {"payload": 5, "annotations": 1}
    before = compare_batch(world.client, world.settings, world.root, world.row(number))
    world.upload(number)
    after = compare_batch(world.client, world.settings, world.root, world.row(number))
    assert (before.new["smbg"], after.same["smbg"]) == (3, 3)
    assert world.all_right()


@pytest.mark.parametrize("deduplicator", [ORIGIN_OLDER, DROP_HASH])
def test_they_go_to_a_feed(feed_world: FeedWorld, deduplicator: str) -> None:
    origin = ',"origin":{"id":"meal","time":"2026-03-01T00:00:00Z"}'
    records = [*DEEP[:3], food(4, 1_500, more=origin), food(4, 1_500, more=f"{origin} ")]
    feed_world.feed([*records, smbg(7)], "b-1", data_set={"deduplicator": {"name": deduplicator}})
    assert len(feed_world.visible()) == 5


def test_they_are_validated_staged_and_restaged_from_quarantine(run: Run, world: World) -> None:
    file = world.folder / "records.ndjson"
    file.write_bytes(
        b"\n".join([*DEEP, smbg(8, f',"x":{arrays(5_000)}', device="other"), TOO_LARGE, TOO_DEEP])
    )

    ran = run("validate", file)
    assert ran.code == 1
    assert "7 records: 5 accepted, 2 rejected" in ran.lines
    verdicts = run("validate", "--verdicts", file).lines
    assert ['"accepted":true' in line for line in verdicts] == [True] * 5 + [False] * 2
    assert "json-malformed" in verdicts[6]
    assert len(run("stage", file, "--user", world.user, "--root", world.root).lines) == 2

    number = world.ready([*readings(2), TOO_LARGE, TOO_DEEP], max_quarantined_percent=50)
    quarantine = world.folder / "quarantine.ndjson"
    quarantine.write_bytes(world.quarantine_text(number))
    assert quarantine.read_bytes().count(b'"record":{"type":"smbg"') == 2
    assert "2 records: 0 accepted, 2 rejected" in run("validate", quarantine).lines
    staged = run("stage", quarantine, "--user", world.user, "--root", world.root).lines
    assert "2 records: 0 accepted, 2 rejected" in run("validate", staged[0]).lines
