"""Each data set says in Tidepool what it was opened for, in digests: that names nobody."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.factories import DEVICE, readings
from tests.world import World
from tidepool_ingest.client import DataSet
from tidepool_ingest.guards.marks import KEY, LARGEST, Mark, check_room_for_mark, with_mark
from tidepool_ingest.model.gojson import go_json_size
from tidepool_ingest.staging.errors import BatchError

OWN = {"delta": {"dataEnd": "2026-03-09T10:00:00Z"}}

PRIVATE_BYTES = 4_096
"""What the Platform takes as ``client.private``."""


def listed(world: World) -> list[DataSet]:
    return list(world.client.data_sets(world.user, include_deleted=True))


def marks(world: World) -> list[Mark]:
    """Return the marks of the closed data sets, the newest first."""
    return [mark for data_set in listed(world) if (mark := Mark.found_in(data_set)) is not None]


def test_a_data_set_is_marked_when_it_is_opened(world: World) -> None:
    number = world.ready(readings(3))
    row = world.row(number)

    world.upload(number)

    assert marks(world) == [Mark.of(row.content_key)]
    (data_set,) = world.sets(number)
    assert data_set.generation == 0


def test_each_part_has_a_mark_of_its_own(world: World) -> None:
    number = world.ready(readings(6), part_records=3)
    whole, parts = world.row(number), world.ledger.parts.of_batch(number)

    world.upload(number)

    assert set(marks(world)) == {Mark.of(whole.content_key, part.content_key) for part in parts}
    assert len(parts) == 2


def test_it_names_nobody(world: World) -> None:
    number = world.ready(readings(3))
    world.upload(number)
    (data_set,) = listed(world)

    text = json.dumps(dict(data_set.private))

    assert set(data_set.private) == {KEY}
    row = world.row(number)
    assert not any(secret in text for secret in (world.user, DEVICE, row.content_key, row.batch_id))


def test_what_the_manifest_keeps_there_stays(world: World) -> None:
    number = world.ready(readings(3), data_set={"client": {"name": "org.example.a", "private": OWN}})
    world.upload(number)
    (data_set,) = listed(world)

    assert data_set.private["delta"] == OWN["delta"]
    assert Mark.found_in(data_set) == Mark.of(world.row(number).content_key)
    assert world.prepared(number).data_set["client"]["private"] == OWN  # type: ignore[call-overload,index]


@pytest.mark.parametrize("spare", [0, -1])
def test_both_have_to_fit(world: World, spare: int) -> None:
    rest = go_json_size({"own": "", KEY: LARGEST.members()})
    private = {"own": "x" * (PRIVATE_BYTES - rest - spare)}
    world.stage(readings(2), data_set={"client": {"name": "org.example.a", "private": private}})

    outcome = world.run()

    assert outcome.codes == (["mark-too-large"] if spare else [])
    assert len(outcome.uploaded) == (0 if spare else 1)
    if spare:
        assert world.recorder.sent == []
        with pytest.raises(BatchError, match="about 150"):
            check_room_for_mark({"client": {"private": private}})


def test_the_room_that_the_remedy_names() -> None:
    assert 130 < go_json_size({KEY: LARGEST.members()}) <= 170


@pytest.mark.parametrize(
    "private", [{}, {KEY: None}, {KEY: 1}, {KEY: {}}, {KEY: {"content": 7}}, {"other": {"content": "a"}}]
)
def test_what_is_no_mark(private: dict[str, Any]) -> None:
    assert Mark.found_in(DataSet("a", "a", "normal", private=private)) is None


@pytest.mark.parametrize(
    ("members", "mark"),
    [
        ({"format": 2, "content": "a", "later": [1]}, Mark("a")),
        ({"content": "a", "part": "b", "generation": 2.0}, Mark("a", "b", 2)),
        ({"content": "a", "part": 1, "generation": -1, "undone": "why"}, Mark("a")),
        ({"content": "a", "undone": "withdrawn"}, Mark("a", undone="withdrawn")),
    ],
)
def test_how_a_mark_is_read(members: dict[str, Any], mark: Mark) -> None:
    data_set = DataSet("a", "a", "normal", private=with_mark({}, members)["client"]["private"])

    assert Mark.found_in(data_set) == mark
