"""Text that one database would keep and another one refuse stops its own batch, alike on both."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from upath import UPath

from tests import SHARED
from tests.factories import DAY, DEVICE, cbg, readings
from tests.servers import postgresql_database
from tests.world import World
from tidepool_ingest.errors import IngestError
from tidepool_ingest.ledger import Ledger
from tidepool_ingest.options import RunOptions
from tidepool_ingest.plan import plan_run
from tidepool_ingest.prepare.step import prepare_batch
from tidepool_ingest.stage import stage
from tidepool_ingest.staging import batches, manifest
from tidepool_ingest.window import Window

REPORTS = SHARED / "reports"

PLACES: dict[str, tuple[int | str, ...]] = {
    "device id": ("dataSet", "deviceId"),
    "device model": ("dataSet", "deviceModel"),
    "serial number": ("dataSet", "deviceSerialNumber"),
    "client": ("dataSet", "client", "name"),
    "deduplicator": ("dataSet", "deduplicator", "name"),
    "payload": ("dataSet", "payload", "note"),
    "field to drop": ("edits", "drop", 0),
    "field to set": ("edits", "set", "notes"),
    "file": ("files", 0, "name"),
    "connection": ("connection",),
    "replaces": ("replaces",),
    "user": ("userId",),
}

ANY_TEXT = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=8),
    st.builds(str.__add__, st.text(max_size=8), st.sampled_from(["\0", "\ud800", "\udfff\0", " \0\0"])),
    st.builds(str.__mul__, st.sampled_from(["x", "\N{SNOWMAN}", "\U0001f600"]), st.integers(1, 3_000)),
)


def said(user: str) -> dict[str, Any]:
    return {
        "userId": user,
        "dataSet": {"deviceId": DEVICE, "client": {"name": "org.example"}, "deduplicator": {}, "payload": {}},
        "files": [{"name": "data.ndjson", "format": "ndjson"}],
        "edits": {"drop": ["id"], "set": {}},
    }


def put(found: Any, place: tuple[int | str, ...], value: Any, *, as_key: bool) -> None:
    for step in place[:-1]:
        found = found[step]
    if as_key and isinstance(found, dict):
        found[value] = 1
    else:
        found[place[-1]] = value


@contextmanager
def ledger_at(address: str) -> Iterator[Ledger]:
    with closing(Ledger(address)) as ledger:
        ledger.migrate()
        yield ledger


def outcome_of(world: World, ledger: Ledger) -> tuple[list[Any], list[str | None]]:
    """Plan and prepare a day; return what the ledger has of each batch, and with which code it stopped."""
    options = RunOptions(force=True)
    plan = plan_run(world.root, Window(DAY, DAY), ledger=ledger, options=options, api_host_of=world.host_of)
    codes: list[str | None] = []
    for row in plan.rows:
        try:
            prepare_batch(world.root, row, ledger=ledger, options=options, api_host_of=world.host_of)
            codes.append(None)
        except IngestError as error:
            codes.append(error.code)
    kept = [(row.batch_id, row.content_key, row.label, row.device_id, row.connection) for row in plan.rows]
    return kept, codes


def test_both_databases_take_or_refuse_the_same_manifests(world: World, postgresql: str) -> None:
    world.stage(readings(2), "neighbour")
    folder = world.stage([cbg(0, 7.0)], "odd")
    with postgresql_database(postgresql) as address, ledger_at(address) as other:

        @settings(max_examples=10)
        @given(st.sampled_from(sorted(PLACES)), ANY_TEXT, st.booleans())
        @example("device id", "m-1\0", False)
        @example("device model", "\ud800", False)
        @example("client", "\U0001f600" * 501, False)
        @example("payload", "a\0", True)
        def check(place: str, text: str, as_key: bool) -> None:
            content = said(world.user)
            put(content, PLACES[place], text, as_key=as_key)
            (folder / "manifest.json").write_text(json.dumps(content))

            kept, codes = outcome_of(world, world.ledger)

            assert outcome_of(world, other) == (kept, codes)
            stopped = {batch[0]: code for batch, code in zip(kept, codes, strict=True)}
            assert sorted(stopped) == ["neighbour", "odd"]
            assert stopped["neighbour"] is None
            if "\0" in text:
                assert stopped["odd"] in ("manifest-malformed", "file-name")

        check()


def test_names_that_are_not_utf8_stop_nobody(world: World) -> None:
    folder = world.stage(readings(2), "neighbour")
    odd = os.fsdecode(b"odd\xff")
    (folder / odd).write_bytes(b"{}")
    for place in (folder.parent / odd, folder.parents[1] / odd / "batch"):
        place.mkdir(parents=True)
        (place / "manifest.json").write_bytes(b"{}")
    (folder.parents[2] / odd).mkdir()

    outcome = world.run()

    assert (outcome.codes, len(outcome.uploaded)) == ([], 1)
    assert outcome.plan.ignored == {"not-a-batch": 1, "not-a-user": 1, "not-a-day": 1}
    assert batches.Arrivals(world.root).look(DAY, DAY) == 1


def test_what_the_manifest_lets_pass_is_stopped_before_it_is_written_with_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.stage(readings(2), "neighbour")
    world.stage([cbg(0, 7.0)], "odd", device="canary\0")
    monkeypatch.setattr(manifest, "first_problem", lambda _value: None)

    outcome = world.run()

    assert (outcome.codes, len(outcome.uploaded)) == (["ledger-text"], 1)
    (error,) = outcome.errors.values()
    assert "batches.device_id" in str(error)
    assert "canary" not in str(error)


@pytest.mark.parametrize("name", ["nul-padded-device-id.ndjson", None])
def test_a_padded_device_id_is_uploaded_and_warned_of(world: World, name: str | None, tmp_path: Path) -> None:
    source = REPORTS / str(name)
    if name is None:
        source = tmp_path / "padded.ndjson"
        lines = [json.dumps(cbg(number, deviceId="m-1\0\0")) for number in range(4)]
        source.write_text("\n".join(lines))
    elif not source.exists():
        pytest.skip("the shared files are not there")

    stage(UPath(source), world.root, world.user, day=DAY)
    outcome = world.run()

    assert outcome.codes == []
    ((number, summary),) = outcome.prepared.items()
    assert world.row(number).device_id == "m-1"
    assert [sum(codes.values()) for codes in summary.warnings.values()] == [4]
    assert {row["deviceId"].rstrip("\0") for row in world.visible()} == {"m-1"}
    assert all(row["deviceId"].endswith("\0") for row in world.visible())
    assert world.all_right()
