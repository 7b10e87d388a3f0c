"""Which version of a record counts: in a batch, across batches, under each deduplicator, and in doubt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.factories import (
    DROP_HASH,
    NONE,
    ORIGIN,
    ORIGIN_OLDER,
    Record,
    alarm,
    bolus,
    cbg,
    minute_of,
    readings,
    wizard,
)
from tests.world import FeedWorld
from tidepool_ingest.upload.feeds.verify import FeedVerificationError
from tidepool_simulator import Fault


def origin(name: str, **more: str) -> dict[str, dict[str, str]]:
    return {"origin": {"id": name, "name": "org.example.app", "type": "application"} | more}


def test_a_given_origin_is_kept_and_another_record_gets_one(world: FeedWorld) -> None:
    number = world.ready([cbg(0, **origin("reading-7")), cbg(1)])
    kept, made = (json.loads(line) for line in world.accepted(number))

    assert kept["origin"] == origin("reading-7")["origin"]
    assert made["origin"]["type"] == "service"
    assert len(made["origin"]["id"]) <= 100
    assert world.accepted(number)[0] == json.dumps(cbg(0, **origin("reading-7"))).encode()


def test_a_made_origin_is_the_same_in_every_batch_and_spelling(world: FeedWorld) -> None:
    first = world.ready([cbg(0, 5.0)], batch="b-1")
    second = world.ready([cbg(0, 6.0) | {"time": "2026-03-01T01:00:00.000+01:00"}], batch="b-2")

    ids = [json.loads(world.accepted(number)[0])["origin"]["id"] for number in (first, second)]
    assert ids[0] == ids[1]


def test_an_origin_without_an_id_gets_one_and_keeps_the_rest(world: FeedWorld) -> None:
    number = world.ready([cbg(0, origin={"name": "org.example.app"})])
    (record,) = (json.loads(line) for line in world.accepted(number))

    assert record["origin"]["name"] == "org.example.app"
    assert record["origin"]["id"].startswith("cbg-")


def test_the_manifest_names_the_key(world: FeedWorld) -> None:
    key = {"origin": {"key": ["payload.recordId"], "name": "org.example.cloud", "type": "application"}}
    world.feed([cbg(0, payload={"recordId": 7}), cbg(1, payload={"recordId": 8})], "b-1", **key)
    world.feed([cbg(5, payload={"recordId": 7})], "b-2", **key)

    assert sorted(world.values()) == [minute_of(1), minute_of(5)]
    assert {row["origin"]["name"] for row in world.visible()} == {"org.example.cloud"}
    assert world.all_right()


def test_a_record_that_lacks_its_key_is_quarantined(world: FeedWorld) -> None:
    key = {"origin": {"key": ["payload.recordId"]}}
    number = world.ready([cbg(0), cbg(1, payload={"recordId": 8})], max_quarantined_percent=50, **key)

    assert world.refused(number) == [(0, ["staged-origin-key-missing"])]


def test_the_last_version_in_a_batch_counts(world: FeedWorld) -> None:
    number = world.ready([cbg(0, 5.0), cbg(1, 5.0), cbg(0, 6.0), cbg(0, 7.0)])
    summary = world.prepare(number)
    world.upload(number)

    assert (summary.accepted, summary.replaced, summary.identical) == (2, {"cbg": 2}, 2)
    assert world.values() == {minute_of(0): 7.0, minute_of(1): 5.0}
    assert world.all_right()


def test_a_value_that_comes_back_is_an_edit_too(world: FeedWorld) -> None:
    for batch, value in (("b-1", 5.0), ("b-2", 6.0), ("b-3", 5.0)):
        world.feed([cbg(0, value)], batch)

    assert world.values() == {minute_of(0): 5.0}
    assert world.all_right()


@pytest.mark.parametrize(
    ("records", "refused"),
    [
        ([cbg(0, **origin("x")), bolus(1, **origin("x"))], [1]),
        ([wizard(0, **origin("w")) | {"bolus": bolus(0, **origin("w"))}, cbg(2)], [0]),
        ([wizard(0) | {"bolus": bolus(0, **origin("b"))}, bolus(0, 9.0, **origin("b"))], [1]),
    ],
    ids=["two types", "a record and what is in it", "an embedded one and another"],
)
def test_origin_ids_that_clash_are_quarantined(
    world: FeedWorld, records: list[dict[str, object]], refused: list[int]
) -> None:
    number = world.ready(records, max_quarantined_percent=50)
    world.upload(number)

    assert world.refused(number) == [(place, ["staged-origin-clash"]) for place in refused]
    assert len(set(world.origin_ids())) == len(world.origin_ids())


def test_what_a_batch_deletes_it_does_not_bring(world: FeedWorld) -> None:
    records = [cbg(0, **origin("x")), cbg(1)]
    number = world.ready(records, deletes=[{"id": "x"}], max_quarantined_percent=50)

    assert world.refused(number) == [(0, ["staged-origin-deleted"])]


def test_deletion_and_return(world: FeedWorld) -> None:
    world.feed([cbg(0, **origin("x"))], "b-1")
    world.feed([], "b-2", deletes=[{"id": "x", "time": minute_of(0)}])
    assert world.visible() == []
    world.feed([cbg(0, **origin("x"))], "b-3")

    assert len(world.visible()) == 1
    assert world.all_right()


def test_a_deletion_that_comes_after_a_newer_version_is_left(world: FeedWorld) -> None:
    deletion = world.ready([cbg(9)], batch="b-1", deletes=[{"id": "x"}])
    world.feed([cbg(0, **origin("x"))], "b-2")
    world.upload(deletion)

    assert sorted(world.values()) == [minute_of(0), minute_of(9)]


def test_a_bolus_edited_later_is_not_brought_back_with_its_wizard(world: FeedWorld) -> None:
    older = world.ready([wizard(0)], batch="b-1")
    world.feed([bolus(0, 7.0)], "b-2")
    world.upload(older)

    shown = {row["type"]: row for row in world.visible()}
    assert len(world.visible()) == 2
    assert shown["bolus"]["normal"] == 7.0
    assert "bolus" not in shown["wizard"]


@pytest.mark.parametrize("name", [ORIGIN, NONE])
def test_embedded_data_and_edits_under_each_deduplicator(world: FeedWorld, name: str) -> None:
    data_set = {"deduplicator": {"name": name}}
    world.feed([wizard(0), alarm(1), cbg(2, 5.0)], "b-1", data_set=data_set)
    world.feed([wizard(0, carbInput=5), alarm(1), cbg(2, 6.0)], "b-2", data_set=data_set)

    assert len(world.visible()) == 5
    assert world.all_right()


@pytest.mark.parametrize("name", [ORIGIN, NONE, ORIGIN_OLDER, DROP_HASH])
@pytest.mark.parametrize(
    "fault",
    [
        Fault.lost_answer("post", skip=1),
        Fault.partial("post", share=0.5, skip=1),
        Fault.late_commit("post", 0.15, status=504, skip=1),
        Fault.failed_after("post", skip=1),
    ],
    ids=["answer lost", "in part", "late", "after the work"],
)
def test_a_chunk_in_doubt_is_there_once(world: FeedWorld, name: str, fault: Fault) -> None:
    world.timed(doubt=0.6)
    world.simulator.faults.add(fault)
    data_set = {"deduplicator": {"name": name}}
    records = [*readings(20), *(bolus(30 + number) for number in range(5))]
    world.feed(records, "b-1", data_set=data_set, chunk_records=10)

    assert len(world.visible()) == 25
    assert len(set(world.origin_ids())) == 25
    assert world.all_right()


def test_older_keeps_the_newer_bolus_and_tells(world: FeedWorld) -> None:
    data_set = {"deduplicator": {"name": ORIGIN_OLDER}}
    times = {"old": "2026-03-01T00:00:00Z", "new": "2026-03-02T00:00:00Z"}
    world.feed([bolus(0, 2.0, **origin("x", time=times["new"])), cbg(1)], "b-1", data_set=data_set)
    stale = [bolus(0, 1.0, **origin("x", time=times["old"])), cbg(1, 9.0), cbg(2), cbg(3)]
    number = world.ready(stale, batch="b-2", data_set=data_set, max_quarantined_percent=50)
    world.upload(number, max_rejected_percent=50)

    assert world.refused(number) == [(0, ["staged-origin-not-newer"])]
    assert world.values("normal")[minute_of(0)] == 2.0
    assert world.values()[minute_of(1)] == 9.0


def test_older_takes_an_edit_with_a_newer_time(world: FeedWorld) -> None:
    data_set = {"deduplicator": {"name": ORIGIN_OLDER}}
    for day, amount in ((1, 1.0), (2, 2.0)):
        time = f"2026-03-0{day}T00:00:00Z"
        world.feed([bolus(0, amount, **origin("x", time=time))], f"b-{day}", data_set=data_set)

    assert world.values("normal") == {minute_of(0): 2.0}


def test_older_warns_of_a_bolus_without_a_time(world: FeedWorld) -> None:
    number = world.ready([bolus(0), cbg(1)], data_set={"deduplicator": {"name": ORIGIN_OLDER}})

    assert world.prepare(number).warnings == {"bolus": {"staged-origin-time-missing": 1}}


def test_drop_hash_keeps_what_it_has_and_tells(world: FeedWorld) -> None:
    data_set = {"deduplicator": {"name": DROP_HASH}}
    food = {"type": "food", "time": minute_of(0), "deviceId": "device-1"}
    world.feed([bolus(5, 1.0), food | origin("f-1") | {"name": "Apple"}], "b-1", data_set=data_set)
    second = [bolus(5, 2.0), food | origin("f-2") | {"name": "Bread"}, cbg(7), cbg(8), bolus(9, 1.0)]
    number = world.ready(second, batch="b-2", data_set=data_set)
    world.upload(number, max_rejected_percent=50)

    assert world.refused(number) == [(0, ["staged-hash-repeated"]), (1, ["staged-hash-repeated"])]
    assert world.values("normal")[minute_of(5)] == 1.0
    assert len(world.visible()) == 5


def test_drop_hash_tells_of_two_records_of_one_second_in_a_batch(world: FeedWorld) -> None:
    food = {"type": "food", "time": minute_of(0), "deviceId": "device-1"}
    records = [food | origin("f-1"), food | origin("f-2") | {"name": "Bread"}]
    number = world.ready(records, data_set={"deduplicator": {"name": DROP_HASH}}, max_quarantined_percent=50)

    assert world.refused(number) == [(1, ["staged-hash-repeated"])]


def test_an_overlap_under_drop_hash_is_no_loss(world: FeedWorld) -> None:
    data_set = {"deduplicator": {"name": DROP_HASH}}
    world.feed(readings(10), "b-1", data_set=data_set)
    number = world.feed(readings(15), "b-2", data_set=data_set)

    assert world.row(number).quarantined == 0
    assert len(world.values()) == 15


def test_what_somebody_else_doubles_is_put_right_or_told(world: FeedWorld) -> None:
    world.feed(readings(3), "b-1")
    (data_set_id,) = world.data_sets()
    (row, *_) = world.visible()
    stranger = {name: row[name] for name in ("type", "time", "units", "value", "deviceId")}
    number = world.ready(readings(3, first=10), batch="b-2")
    world.client.upload_data(data_set_id, json.dumps([stranger]).encode())
    world.upload(number)

    assert len(world.visible()) == 7  # rows of others, without our origins, are none of ours


def test_a_record_that_does_not_appear_is_sent_again(world: FeedWorld) -> None:
    number = world.ready(readings(30), chunk_records=10)
    sent = world.client.upload_data
    lost: list[bytes] = []

    def losing(data_set_id: str, body: bytes) -> None:
        if lost or len(world.recorder.chunks) != 1:
            sent(data_set_id, body)
        else:
            lost.append(body)  # answered as if it had been stored

    world.client.upload_data = losing  # type: ignore[method-assign]
    summary = world.upload(number)

    assert len(lost) == 1
    assert summary.repairs == 1
    assert len(world.values()) == 30


def test_what_never_appears_is_a_clear_failure(world: FeedWorld) -> None:
    number = world.ready(readings(3))
    world.client.upload_data = lambda data_set_id, body: None  # type: ignore[method-assign]
    with pytest.raises(FeedVerificationError, match="3 records are missing"):
        world.upload(number)

    assert world.row(number).state == "uploading"


def test_a_small_batch_does_not_read_the_whole_history_back(world: FeedWorld) -> None:
    world.feed(readings(500), "b-1")
    read, shown = world.client.read_data, 0

    def counted(*args: Any, **more: Any) -> Iterator[Record]:
        nonlocal shown
        for row in read(*args, **more):
            shown += row["type"] != "upload"
            yield row

    world.client.read_data = counted  # type: ignore[method-assign]
    world.feed([cbg(1000), cbg(1005)], "b-2")

    assert shown == 2
