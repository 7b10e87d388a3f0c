"""Files as vendors give them, all the way: staged, run, read back, and compared without the converters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.airflow.vendor_exports import FEED, stage_export
from tests.airflow.world import CONTINUOUS_DAG_ID, DAG_ID, AirflowWorld, Run
from tests.factories import TODAY
from tidepool_simulator.sample import vendor_files, write_sample_exports
from tidepool_simulator.sample.checker.content import rows_of
from tidepool_simulator.sample.checker.nightscout import nightscout_rows
from tidepool_simulator.sample.checker.result import CheckResult
from tidepool_simulator.sample.vendor_files import VendorFile


def checked(world: AirflowWorld) -> CheckResult:
    result = world.check()
    assert result.ok, [vars(entry) for entry in result.sets if not entry.ok]
    assert result.unreadable == []
    return result


def written(world: AirflowWorld, run: Run, output: str) -> Iterator[str]:
    """Yield all that a run left behind: logs, XCom, ledger, work area, and what Tidepool stores."""
    yield output
    yield repr(run.xcoms)
    kept = [
        *world.folder.glob("*.db*"),
        *world.folder.glob(f"{world.store.name}*"),
        *(path for path in (world.staging / "_work").rglob("*") if path.is_file()),
    ]
    yield from (path.read_bytes().decode("utf-8", errors="replace") for path in kept)


def no_name_in(world: AirflowWorld, run: Run, output: str, file: VendorFile) -> bool:
    texts = list(written(world, run, output))
    assert len(texts) > 3
    # What is not ASCII may be spelled in several ways.
    parts = [part.encode("ascii", "replace").split(b"?")[0].decode() for part in file.private]
    assert [part for part in parts if any(part in text for text in texts)] == []
    return True


@pytest.mark.parametrize(
    ("make", "device_id"),
    [
        (vendor_files.clarity_export, "Dexcom-Clarity"),
        pytest.param(vendor_files.german_clarity_export, "Dexcom-Clarity", marks=pytest.mark.slow),
        (vendor_files.meter_table, f"Meter-{vendor_files.METER}"),
    ],
)
def test_rows_that_have_names_become_visible_in_a_feed(
    world: AirflowWorld, capfd: pytest.CaptureFixture[str], make: Any, device_id: str
) -> None:
    file = make()
    stage_export(world, file, FEED | {"deviceId": device_id}, "feed")
    run = world.run_dag(dag_id=CONTINUOUS_DAG_ID)

    assert run.state == "success"
    result = checked(world)
    assert (result.staged, result.quarantined) == (file.rows - file.skipped, file.refused)
    assert result.visible == file.rows - file.skipped - file.refused
    assert sum(run.xcoms["report", -1, "summary"]["skipped"].values()) == file.skipped
    assert no_name_in(world, run, "".join(capfd.readouterr()), file)


def test_each_reader_of_a_file_becomes_a_data_set(
    world: AirflowWorld, capfd: pytest.CaptureFixture[str]
) -> None:
    file = vendor_files.libreview_export()
    for serial in (vendor_files.OLD_READER, vendor_files.NEW_READER):
        stage_export(world, file, {"deviceId": f"LibreView-{serial}"}, f"reader-{serial}", serial=serial)
    run = world.run_dag()

    assert run.state == "success"
    result = checked(world)
    assert (result.staged, result.quarantined) == (file.rows - file.skipped, file.refused)
    assert result.visible == file.rows - file.skipped - file.refused
    assert len({entry.data_set_id for entry in result.sets}) == 2
    assert no_name_in(world, run, "".join(capfd.readouterr()), file)


@pytest.mark.slow
def test_a_file_staged_again_with_another_zone_replaces_what_it_said(world: AirflowWorld) -> None:
    file = vendor_files.clarity_export()
    stage_export(world, file, FEED | {"deviceId": "Dexcom-Clarity"}, "a-wrong", timezone="Europe/Lisbon")
    world.run_dag(dag_id=CONTINUOUS_DAG_ID)
    wrong = checked(world)
    stage_export(world, file, FEED | {"deviceId": "Dexcom-Clarity"}, "b-right", ("zone-differs",))
    world.run_dag(dag_id=CONTINUOUS_DAG_ID)
    right = checked(world)

    assert right.visible == wrong.visible
    assert right.superseded >= wrong.visible


@pytest.mark.slow
def test_two_overlapping_exports_of_a_site_show_all_of_it_once(
    world: AirflowWorld, capfd: pytest.CaptureFixture[str]
) -> None:
    for batch, hours in (("a-first", (0, 30)), ("b-later", (20, 48))):
        files = vendor_files.nightscout_site(hours)
        stage_export(world, files, FEED | {"deviceId": "Nightscout"}, batch)
        run = world.run_dag(dag_id=CONTINUOUS_DAG_ID)
        assert run.state == "success"

    result = checked(world)
    whole = [(file.content, file.manifest_entry()) for file in vendor_files.nightscout_site((0, 48))]
    documents = [records for rows in nightscout_rows(whole, None, None) for records in rows]
    # Both together show what one export of all of it says: of a calculation, its bolus too.
    rows = [row for records in documents for record in records if record for row in rows_of(record)]
    assert result.visible == len(rows)
    assert (result.lost, result.double) == (0, 0)
    assert result.superseded > 100
    assert result.quarantined > 0
    assert no_name_in(world, run, "".join(capfd.readouterr()), files[1])


@pytest.mark.slow
def test_the_samples_exports_of_every_format_are_seen_once(world: AirflowWorld) -> None:
    written = write_sample_exports(world.staging, TODAY)
    for dag_id in (DAG_ID, CONTINUOUS_DAG_ID):
        assert world.run_dag(dag_id=dag_id).state == "success"

    result = checked(world)
    assert len(result.sets) == len(written.batches)
    assert result.quarantined == 19
    assert {name for entry in result.sets for name in entry.formats} == {
        *("clarity", "libreview", "nightscout", "tidepool-export", "tidepool-web-export"),
        *("table (csv)", "table (parquet)", "table (xlsx)"),
    }
