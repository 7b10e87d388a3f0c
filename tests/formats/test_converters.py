"""Which converter made the records is noted at Tidepool, and a newer one uploads nothing again by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.factories import DEVICE, readings
from tests.formats.readers import VendorReader, vendor_file
from tests.world import FeedWorld, World
from tidepool_ingest.formats import FORMATS
from tidepool_ingest.formats.reader import Block
from tidepool_ingest.guards.marks import CONVERTERS, KEY, LARGEST, VERSION_MAX
from tidepool_ingest.model.gojson import go_json_size
from tidepool_ingest.staging.source_file import SourceFile

ROWS = [f"A,,2026-03-05T08:0{minute}:00,6.{minute}" for minute in range(4)]
EXPORT = vendor_file(*ROWS)
OF_VERSION_1 = {VendorReader.name: 1}


class NewerReader(VendorReader):
    """A later version of the reader: it makes other records of the same rows."""

    version = 2
    added = 0.5
    rows_read = 4

    def blocks(self, file: SourceFile) -> Iterator[Block]:
        for block in super().blocks(file):
            if block.first_position < self.rows_read:
                yield block
            else:
                yield Block(block.first_position, [], skipped={"note": 1})


@pytest.fixture(autouse=True)
def _test_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, VendorReader.name, VendorReader)


def newer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, VendorReader.name, NewerReader)


def staged(content: bytes = EXPORT, **more: Any) -> dict[str, Any]:
    body = {"timezone": "Europe/Berlin", "deviceId": DEVICE} | more.pop("data_set", {})
    return {
        "content": content,
        "name": "export.csv",
        "file": {"format": VendorReader.name},
        "data_set": body,
    } | more


def marks(world: World) -> list[dict[str, Any]]:
    listed = world.client.data_sets(world.user, include_deleted=True)
    return [dict(data_set.private[KEY]) for data_set in listed if KEY in data_set.private]


def test_it_is_noted_when_a_data_set_is_opened(world: World) -> None:
    world.upload(world.ready([], **staged()))

    (mark,) = marks(world)
    assert mark[CONVERTERS] == OF_VERSION_1


def test_each_part_of_a_giant_batch_notes_it(world: World) -> None:
    world.upload(world.ready([], part_records=2, **staged()))

    assert [mark[CONVERTERS] for mark in marks(world)] == [OF_VERSION_1] * 2


def test_records_that_nobody_converted_have_none(world: World) -> None:
    world.upload(world.ready(readings(2)))

    (mark,) = marks(world)
    assert CONVERTERS not in mark


def test_what_was_verified_is_not_uploaded_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    number = world.ready([], **staged())
    world.upload(number)
    before, key = world.visible(), world.row(number).content_key
    newer(monkeypatch)
    sent = len(world.recorder.sent)

    outcome = world.run()

    assert outcome.codes == []
    assert world.row(number).content_key == key
    assert (world.visible(), len(world.sets(number))) == (before, 1)
    assert not [one for one in world.recorder.sent[sent:] if one.method != "GET"]


@pytest.mark.parametrize(("rows_left", "codes"), [(4, []), (3, ["found-differs"])])
def test_nor_where_the_ledger_was_lost(
    world: World, monkeypatch: pytest.MonkeyPatch, elsewhere: Any, rows_left: int, codes: list[str]
) -> None:
    world.upload(world.ready([], **staged()))
    before = world.visible()
    newer(monkeypatch)
    monkeypatch.setattr(NewerReader, "rows_read", rows_left)

    outcome = elsewhere().run()

    assert outcome.codes == codes
    assert world.visible() == before
    assert len(marks(world)) == 1


def test_what_tidepool_has_nothing_of_is_converted_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.ready([], **staged())
    newer(monkeypatch)

    world.run()

    assert [row["value"] for row in world.visible()] == [6.5, 6.6, 6.7, 6.8]
    assert [mark[CONVERTERS] for mark in marks(world)] == [{VendorReader.name: 2}]


@pytest.mark.parametrize("spare", [0, -1])
def test_there_has_to_be_room_for_it(world: World, spare: int) -> None:
    mark = {**LARGEST.members(), CONVERTERS: {VendorReader.name: VERSION_MAX}}
    private = {"own": "x" * (4_096 - go_json_size({"own": "", KEY: mark}) - spare)}
    world.stage([], **staged(data_set={"client": {"name": "org.example.a", "private": private}}))

    assert world.run().codes == (["mark-too-large"] if spare else [])


def test_a_feed_notes_who_converted_what_it_was_opened_for(feed_world: FeedWorld) -> None:
    rows = [row.replace("A,,", f"A,r{number},") for number, row in enumerate(ROWS)]
    world = feed_world
    world.upload(world.ready([], **staged(vendor_file(*rows))))

    (mark,) = marks(world)
    assert mark == {"format": 1, "feed": True, CONVERTERS: OF_VERSION_1}
