"""Staging on the stores that Airflow connections lead to, over HTTP: S3, Google Cloud Storage, Azure, ``file://``.

The last two stores need packages that are not in the requirements; without them their tests are skipped and
say so. docs/deployment.md has the commands.
"""

from __future__ import annotations

import gc
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import boto3
import pytest
from dev.home import LocalHome
from upath import UPath

from tests.factories import meter_readings
from tests.integration.airflow.celery_stack import store_connection
from tests.servers import azure_server, google_server, s3_server
from tidepool_airflow.settings import staging_root
from tidepool_ingest.errors import Disposition
from tidepool_ingest.stage import stage
from tidepool_ingest.staging import storage
from tidepool_ingest.staging.batches import Arrivals, days, find_batches
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import read_manifest
from tidepool_ingest.staging.work_area import PreparedBatch, WorkArea
from tidepool_simulator.sample import SAMPLE_USERS

pytestmark = pytest.mark.slow

DAY = date(2026, 3, 5)
USER = SAMPLE_USERS[0]
BUCKET = "tidepool-staging"
MANY = 2_500
"""Manifests of one day: three pages of what S3 lists at a time."""
PARTS = 120 * 1024 * 1024
"""Bytes that no store's client sends in one piece."""


CONNECTIONS = itertools.count(1)


@dataclass
class Store:
    """A store with an empty bucket.

    :param address: of the staging root, with ``{}`` in place of the bucket; through an Airflow connection, as
        a deployment has it.
    :param log: which requests its server has received, if it writes that down.
    """

    address: str
    log: Path

    @property
    def root(self) -> UPath:
        return staging_root(self.address.format(BUCKET))


@contextmanager
def connected(scheme: str, log: Path, connection: dict[str, object]) -> Iterator[Store]:
    # Airflow keeps the client of a connection for as long as a process lives: each has an id of its own.
    name = f"store_{next(CONNECTIONS)}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
        yield Store(f"{scheme}://{name}@{{}}/batches", log)


@contextmanager
def s3(folder: Path) -> Iterator[Store]:
    log = folder / "s3.log"
    with s3_server(log) as address, connected("s3", log, store_connection(address)) as store:
        client_of(address).create_bucket(Bucket=BUCKET)
        yield store


def client_of(address: str) -> Any:
    """Another client than the one under test."""
    credentials = {"aws_access_key_id": "any-key", "aws_secret_access_key": "any-secret"}
    return boto3.client("s3", endpoint_url=address, region_name="us-east-1", **credentials)


@contextmanager
def gs(folder: Path) -> Iterator[Store]:
    log = folder / "gs.log"
    with google_server(log, BUCKET) as address:
        extra = {"is_anonymous": True, "project": "any", "gcs.endpoint": address}
        with connected("gs", log, {"conn_type": "google_cloud_platform", "extra": extra}) as store:
            yield store


@contextmanager
def abfs(folder: Path) -> Iterator[Store]:
    log = folder / "abfs.log"
    with azure_server(log) as address:
        extra = {"connection_string": address}
        with connected("abfs", log, {"conn_type": "wasb", "extra": extra}) as store:
            store.root.fs.mkdir(BUCKET)
            yield store


@contextmanager
def file(folder: Path) -> Iterator[Store]:
    yield Store(f"file://{folder}/{{}}/batches", folder / "none.log")


@pytest.fixture(scope="module", params=[s3, gs, abfs, file], ids=lambda kind: kind.__name__)
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, airflow_home: LocalHome
) -> Iterator[Store]:
    with request.param(tmp_path_factory.mktemp("store")) as made:
        yield made


@pytest.fixture
def root(store: Store, request: pytest.FixtureRequest) -> UPath:
    """A staging root of one test's own."""
    return store.root / request.node.originalname


def listing(root: UPath) -> list[str]:
    storage.filesystem(root)
    return sorted(name.rpartition("/")[2] for name in root.fs.find(root.path))


def write_and_stop(path: UPath, content: bytes) -> None:
    with storage.WholeFileWriter(path) as file:
        file.write(content)
        raise RuntimeError("stop")


def test_a_file_is_staged_found_and_read(root: UPath, tmp_path: Path) -> None:
    source = tmp_path / "readings.ndjson"
    source.write_text("".join(f"{json.dumps(reading)}\n" for reading in meter_readings(30, day=DAY)))

    (staged,) = stage(UPath(source), root, USER, day=DAY)
    (found,) = find_batches(root, DAY, DAY)

    assert found == staged
    (file,) = read_manifest(found.path, USER).files
    assert storage.sha256_of(found.path / file.name) == file.sha256


def test_what_is_abandoned_leaves_nothing(root: UPath) -> None:
    storage.make_folder(root)
    for size in (10, PARTS):
        with pytest.raises(RuntimeError, match="stop"):
            write_and_stop(root / "new", b"x" * size)
    gc.collect()

    assert listing(root) == []


def test_an_older_file_stays_until_the_new_one_is_whole(root: UPath) -> None:
    storage.make_folder(root)
    storage.write_whole(root / "a", b"old")

    with pytest.raises(RuntimeError, match="stop"):
        write_and_stop(root / "a", b"x" * PARTS)
    gc.collect()

    assert storage.read_at_most(root / "a", 100, missing="file-missing") == b"old"


def test_a_large_file_is_there_whole(root: UPath) -> None:
    storage.make_folder(root)
    pattern = b"".join(number.to_bytes(4, "big") for number in range(1024 * 1024))

    with storage.WholeFileWriter(root / "large") as file:
        for _ in range(PARTS // len(pattern)):
            file.write(pattern)

    assert storage.filesystem(root).info((root / "large").path)["size"] == PARTS
    middle = PARTS // 2 + 6
    read = storage.read_range(root / "large", middle, 1000, missing="file-missing")
    assert read == pattern[middle % len(pattern) :][:1000]


def test_a_work_area_without_its_plan_is_not_there(root: UPath) -> None:
    area = WorkArea(root, "0" * 64)
    area.begin()
    with area.accepted_writer() as accepted:
        chunk = accepted.write([b'{"type": "smbg"}'] * 3)
    assert area.load() is None

    area.finish(
        PreparedBatch(content_key="0" * 64, chunk_records=10, data_set={}, records=3, chunks=(chunk,))
    )
    prepared = area.load()
    assert prepared is not None
    assert area.read_chunk(prepared.chunks[0]) == [b'{"type": "smbg"}'] * 3

    area.begin()
    assert area.load() is None
    area.discard()
    area.discard()
    assert listing(root) == []


def test_what_another_process_writes_is_seen_at_once(root: UPath) -> None:
    batch = f"{DAY}/{USER}/batch-1"
    storage.make_folder(root)
    assert list(find_batches(root, DAY, DAY)) == []
    elsewhere(root, f"{batch}/manifest.json", "one")
    assert [found.name for found in find_batches(root, DAY, DAY)] == [batch]


def test_a_manifest_that_is_written_anew_has_arrived_anew(root: UPath) -> None:
    name = f"{DAY}/{USER}/batch-1/manifest.json"
    arrivals = Arrivals(root)
    elsewhere(root, name, "one")
    assert arrivals.look(DAY, DAY) == 1
    assert arrivals.look(DAY, DAY) == 0
    elsewhere(root, name, "two")  # of the same length, and within the same second
    assert arrivals.look(DAY, DAY) == 1


def test_an_empty_root_holds_nothing_and_one_that_is_not_there_is_an_error(store: Store, root: UPath) -> None:
    storage.make_folder(root)
    assert days(root) == []

    with pytest.raises(BatchError, match=r"\[staging-root-missing\]") as caught:
        days(staging_root(store.address.format("bucket-of-nobody")))
    assert caught.value.disposition is Disposition.DATA
    assert "nobody" not in str(caught.value)


def elsewhere(root: UPath, name: str, text: str) -> None:
    """Write a file as another process does, whose client shares nothing with this one's."""
    if root.protocol == "file":
        (Path(root.path) / name).parent.mkdir(parents=True, exist_ok=True)
    other = type(root.fs)(*root.fs.storage_args, skip_instance_cache=True, **root.fs.storage_options)
    assert other is not root.fs
    other.pipe_file((root / name).path, text.encode())


def test_no_error_shows_a_path(store: Store) -> None:
    path = staging_root(store.address.format("bucket-of-nobody")) / USER / "records.ndjson"

    with pytest.raises(BatchError) as unread:
        storage.read_at_most(path, 10, missing="manifest-missing")
    with pytest.raises(BatchError) as unwritten:
        storage.write_whole(path, b"x")

    assert unwritten.value.code == "staging-unwritable"
    for error in (unread.value, unwritten.value):
        assert not [word for word in (USER, "records.ndjson", "nobody") if word in str(error)]
        assert error.__suppress_context__


def test_many_manifests_are_listed_in_pages_and_not_opened(store: Store, root: UPath) -> None:
    folder = root / str(DAY)
    users = (f"{number:010x}" for number in range(MANY))
    made = {(folder / user / "batch-1" / "manifest.json").path: b"not opened" for user in users}
    put_all(root, made)
    before = asked_of(store)

    found = list(find_batches(root, DAY, DAY))

    assert len(found) == len(set(found)) == MANY
    asked = asked_of(store)[len(before) :]
    assert [line for line in asked if "manifest.json HTTP" in line] == []
    if store.root.protocol == "s3":
        pages = [line for line in asked if "continuation-token" in line]
        assert len(pages) == MANY // 1_000
    assert len(asked) <= MANY // 10


def put_all(root: UPath, files: dict[str, bytes]) -> None:
    if root.protocol == "file":
        for name, content in files.items():
            Path(name).parent.mkdir(parents=True)
            Path(name).write_bytes(content)
        return
    root.fs.pipe(files)


def asked_of(store: Store) -> list[str]:
    return store.log.read_text().splitlines() if store.log.exists() else []


# ---------------------------------------------------------------------- what only S3 shows


@dataclass
class S3Alone:
    """An S3 of one test's own.

    :param client: another client for it than the one under test.
    :param end: ends the server.
    """

    store: Store
    client: Any
    end: Callable[[], None]


@pytest.fixture
def s3_alone(tmp_path: Path, airflow_home: LocalHome) -> Iterator[S3Alone]:
    log = tmp_path / "s3.log"
    with ExitStack() as server:
        address = server.enter_context(s3_server(log))
        client_of(address).create_bucket(Bucket=BUCKET)
        with connected("s3", log, store_connection(address)) as store:
            yield S3Alone(store, client_of(address), server.close)


def left_open(client: Any) -> list[str]:
    return [upload["Key"] for upload in client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())]


def test_an_abandoned_multi_part_upload_is_aborted(s3_alone: S3Alone) -> None:
    root, client, seen = s3_alone.store.root, s3_alone.client, list[str]()

    def stopping() -> None:
        with storage.WholeFileWriter(root / "new") as file:
            file.write(b"x" * PARTS)
            seen.extend(left_open(client))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stopping()

    assert seen == ["batches/new"]
    assert left_open(client) == []


def test_a_bucket_that_is_not_there_is_not_made(s3_alone: S3Alone) -> None:
    misspelt = staging_root(s3_alone.store.address.format("tidepool-stagign"))

    storage.make_folder(misspelt / "x")
    with pytest.raises(BatchError, match="staging-unwritable"):
        storage.write_whole(misspelt / "x" / "a", b"1")

    assert [bucket["Name"] for bucket in s3_alone.client.list_buckets()["Buckets"]] == [BUCKET]


def test_a_store_that_does_not_answer_is_retried_later(s3_alone: S3Alone) -> None:
    path = s3_alone.store.root / USER / "records.ndjson"
    storage.write_whole(path, b"x")
    asked = {
        "staging-unreadable": lambda: storage.read_at_most(path, 10, missing="manifest-missing"),
        r"staging-unreadable\]": lambda: days(s3_alone.store.root),
        "staging-unwritable": lambda: storage.write_whole(path, b"x"),
    }
    s3_alone.end()

    for code, ask in asked.items():
        with pytest.raises(BatchError, match=code) as caught:
            ask()
        assert caught.value.disposition is Disposition.RETRIABLE
        assert USER not in str(caught.value)
        assert "127.0.0.1" not in str(caught.value)
