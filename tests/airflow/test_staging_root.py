"""A staging root that is not there, or whose address is none, is told as such, and makes no run green."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from airflow.triggers.base import TriggerEvent

from tests.airflow.world import AirflowWorld
from tests.factories import meter_readings, stage
from tidepool_airflow import assets
from tidepool_airflow.settings import staging_root
from tidepool_ingest.cli.arguments import given_upath
from tidepool_ingest.errors import Disposition
from tidepool_ingest.staging import storage
from tidepool_ingest.staging.errors import BatchError

MALFORMED = ["://", "://x", "s3://", "s3:///folder", "s3://connection@", "file://", "file:///", "nosuch://x"]


@pytest.mark.parametrize("address", [*MALFORMED, "nosuch://", "~nobody-of-this-name/staging"])
def test_what_is_no_address_is_told_with_the_variable_that_names_it(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEPOOL_STAGING_ROOT", address)
    for given in (None, address):
        with pytest.raises(BatchError, match=r"\[staging-root-address\].*TIDEPOOL_STAGING_ROOT") as caught:
            staging_root(given)
        assert caught.value.disposition is Disposition.DATA
        assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize("address", MALFORMED)
def test_a_command_tells_it_too(address: str) -> None:
    with pytest.raises(BatchError, match=r"\[staging-unreachable\]"):
        given_upath(address)


def test_a_home_folder_is_the_same_to_commands_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert given_upath("~/staging").path == staging_root("~/staging").path == str(tmp_path / "staging")
    for address in ("", "~nobody-of-this-name/staging"):
        with pytest.raises(BatchError, match="staging-unreachable"):
            given_upath(address)


@pytest.mark.parametrize("address", ["/staging\0", "s3://bucket/\0", "/staging\udcff"])
def test_a_run_cannot_name_a_root_that_no_ledger_could_keep(address: str) -> None:
    with pytest.raises(BatchError, match=r"\[staging-root-address\]"):
        staging_root(address)


def test_an_address_of_a_storage_is_one(tmp_path: Path) -> None:
    assert staging_root(f"file://{tmp_path}/staging").path == f"{tmp_path}/staging"
    assert staging_root(str(tmp_path)).path == str(tmp_path)
    assert staging_root("~/staging").path == str(Path("~/staging").expanduser())


@pytest.mark.slow
def test_a_run_without_its_root_fails_in_its_plan(world: AirflowWorld) -> None:
    world.staging.rmdir()

    run = world.run_dag({"users": ["0123456789"]})

    assert run.state == "failed"
    assert run.tasks["plan", -1] == "failed"
    assert not world.staging.exists()


def test_the_watcher_goes_on_once_its_root_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "staging"
    monkeypatch.setenv("TIDEPOOL_STAGING_ROOT", "nosuch://x")
    make, look, codes = assets._arrivals, assets._look, []

    def make_once_it_is_named(*given: Any) -> Any:
        try:
            return make(*given)
        except BatchError as error:
            codes.append(error.code)
            monkeypatch.setenv("TIDEPOOL_STAGING_ROOT", str(root))
            raise

    def look_once_it_is_there(arrivals: Any) -> int:
        try:
            return look(arrivals)
        except BatchError as error:
            codes.append(error.code)
            stage(root, meter_readings(1))
            raise

    monkeypatch.setattr(assets, "_arrivals", make_once_it_is_named)
    monkeypatch.setattr(assets, "_look", look_once_it_is_there)

    async def first_event() -> TriggerEvent:
        return await asyncio.wait_for(anext(assets.ManifestTrigger(0.0).run()), 20)

    assert asyncio.run(first_event()) == TriggerEvent({"manifests": 1})
    assert codes == ["staging-root-address", "staging-root-missing"]


@pytest.mark.parametrize("below", [(), ("2026-03-05", "5a3c0d0001", "batch", "manifest.json")])
def test_what_is_read_of_a_store_is_read_with_its_connection(
    below: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = {"conn_type": "aws", "login": "somebody", "extra": {"endpoint_url": "http://store:5000"}}
    monkeypatch.setenv("AIRFLOW_CONN_STORE_OF_ROOT", json.dumps(written))
    path = staging_root("s3://store_of_root@bucket/batches").joinpath(*below)

    assert storage.filesystem(path) is path.fs
    assert storage.as_upath(path) is path
