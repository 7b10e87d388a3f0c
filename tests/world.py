"""The world of the tests: staged batches, a ledger, a simulator, and one account that uploads."""

from __future__ import annotations

import itertools
import json
import logging
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import date
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest
import requests
from sqlalchemy import event, update
from upath import UPath

from tests.factories import DAY, DEVICE, Record, stage
from tests.timing import PATIENCE_SECONDS
from tidepool_ingest.client import (
    BackOff,
    ClientSettings,
    TidepoolClient,
    TidepoolUnreachableError,
    connect,
    host_of,
)
from tidepool_ingest.client.exchange import WatchedAdapter, new_session
from tidepool_ingest.deep_json import loads
from tidepool_ingest.errors import IngestError
from tidepool_ingest.ledger import (
    BatchRow,
    BatchState,
    DataSetRow,
    DataSetState,
    FoundBatch,
    Ledger,
    TaskOrigin,
    Upload,
)
from tidepool_ingest.ledger.database import LeaseHeldError, now_of
from tidepool_ingest.ledger.schema import leases, rate_limits
from tidepool_ingest.options import RunOptions
from tidepool_ingest.plan import Plan, plan_run
from tidepool_ingest.prepare.step import prepare_batch, rebuild_work_area
from tidepool_ingest.prepare.summary import PrepareSummary
from tidepool_ingest.rejection_limit import MAX_QUARANTINED_PERCENT, QUARANTINED_FROM, RejectionLimit
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.work_area import PreparedBatch, WorkArea
from tidepool_ingest.upload import UploadContext, UploadOptions, UploadSummary, upload_batch, upload_to_feed
from tidepool_ingest.upload.guarded_requests import Timeouts
from tidepool_ingest.window import Window
from tidepool_simulator import Simulator
from tidepool_simulator.accounts import CLIENT_ID, CLIENT_SECRET
from tidepool_simulator.sample.checker import CheckResult, check

NAMES = itertools.count(1)
CLIENT = "org.example.ingest.continuous"
"""What feeds are called unless a manifest says otherwise."""


QUICK = Timeouts(pause=0.01, doubt=0.0, patience=2.0, visible_poll=0.02, visible_wait=0.1)
"""Pauses that let a test be short."""


@dataclass(frozen=True)
class Sent:
    """One request that changes something, as the client sent it."""

    method: str
    path: str
    body: bytes

    @property
    def is_chunk(self) -> bool:
        return self.method == "POST" and self.path.endswith("/data") and self.body != b"[]"


class Recorder(WatchedAdapter):
    """Sends requests, and keeps a copy of those that change something."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Sent] = []

    def send(self, request: requests.PreparedRequest, *args: Any, **more: Any) -> requests.Response:
        path = urlsplit(str(request.url)).path
        if request.method != "GET" and path.startswith("/v1/"):
            body = request.body or b""
            assert isinstance(body, bytes)
            self.sent.append(Sent(str(request.method), path, body))
        return super().send(request, *args, **more)

    @property
    def chunks(self) -> list[Sent]:
        return [sent for sent in self.sent if sent.is_chunk]


@dataclass
class Outcome:
    """What a run did: its plan, and what each of its batches came to."""

    plan: Plan
    prepared: dict[int, PrepareSummary] = field(default_factory=dict)
    uploaded: dict[int, UploadSummary] = field(default_factory=dict)
    errors: dict[int, IngestError] = field(default_factory=dict)

    @property
    def codes(self) -> list[str]:
        return sorted(error.code for error in self.errors.values())


class World:
    """Everything that the steps work on; see the methods.

    A kind of world is a subclass, and :func:`a_world` makes them all.
    """

    day = DAY
    """The day that batches are of, and that a run covers, unless told otherwise."""

    data_set_type = "normal"
    uploader: Callable[[UploadContext, BatchRow], UploadSummary] = staticmethod(upload_batch)

    def __init__(
        self, folder: Path, simulator: Simulator, store: Path, ledger: Ledger, api: str = ""
    ) -> None:
        self.root = UPath(folder / "staging")
        self.staging.mkdir(exist_ok=True)
        self.folder = folder
        self.simulator = simulator
        self.store = store
        self.ledger = ledger
        self.allowed = {None, "tidepool_default"}
        self.recorder = Recorder()
        self.timeouts = QUICK
        self.at_once = 1  # one chunk after the other, so that a test can tell which one a fault strikes
        self.settings = ClientSettings.of(
            {
                "environment": api or simulator.base_url,
                "auth_mode": "client_credentials",
                "client_id": CLIENT_ID,
                "client_secret": CLIENT_SECRET,
                "client_name": "org.example.ingest",
                "client_version": "1.2.3",
            }
        )
        session = new_session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, self.recorder)
        self.client: TidepoolClient = connect(self.settings, session=session, backoff=BackOff(first=0.01))
        self.api_host = host_of(api or simulator.base_url)
        self.user = self.add_user()

    def timed(self, **seconds: Any) -> None:
        """Let steps take longer or shorter; see :class:`Timeouts`."""
        self.timeouts = replace(self.timeouts, **seconds)

    def wait_out_slow_downs(self) -> None:
        """Let the pauses that Tidepool asked for be over."""
        with self.ledger.database.writing() as connection:
            connection.execute(update(rate_limits).values(seconds=0))

    def wait_out_claims(self) -> None:
        """Let the claims of those who have ended be over, and what they have asked for be done."""
        assert self.simulator.settle(PATIENCE_SECONDS)
        with self.ledger.database.writing() as connection:
            connection.execute(update(leases).values(expires_at=now_of(connection)))

    @property
    def staging(self) -> Path:
        """The staging root as the file system knows it."""
        return Path(self.root.path)

    @property
    def ledger_address(self) -> str:
        """The ledger's address, for those who open it themselves."""
        return self.ledger.database.engine.url.render_as_string(hide_password=False)

    # ---------------------------------------------------------------- what lies there

    def add_user(self, user_id: str | None = None, *, may_upload: bool = True) -> str:
        """Create an account, for which the uploading account may upload, and return its id."""
        account = self.simulator.accounts.add_user(f"patient-{next(NAMES)}", user_id=user_id)
        if may_upload:
            self.simulator.accounts.grant("service", of=account.name)
        return account.id

    def stage(
        self,
        records: Sequence[Record | bytes] = (),
        batch: str = "one",
        *,
        user: str = "",
        day: date | None = None,
        device: str = DEVICE,
        name: str = "data.ndjson",
        content: bytes | None = None,
        data_set: Record | None = None,
        file: Record | None = None,
        **manifest: Any,
    ) -> Path:
        """Write a ready batch over whatever lies there, and return its folder."""
        return stage(
            self.staging,
            records,
            user=user or self.user,
            day=day or self.day,
            batch=batch,
            data_set={"deviceId": device, "deviceModel": "Model 5"} | (data_set or {}),
            name=name,
            content=content,
            file=file,
            **manifest,
        )

    # ---------------------------------------------------------------- the steps

    def options(self, **options: Any) -> RunOptions:
        return RunOptions.of_params(options)

    def host_of(self, connection: str | None) -> str:
        if connection not in self.allowed:
            raise BatchError("connection-not-allowed")
        return self.api_host

    def plan(
        self,
        window: Window | None = None,
        *,
        host_of: Callable[[str | None], str] | None = None,
        **options: Any,
    ) -> Plan:
        return plan_run(
            self.root,
            window or Window(self.day, self.day),
            ledger=self.ledger,
            options=self.options(**options),
            api_host_of=host_of or self.host_of,
            data_set_type=self.data_set_type,
        )

    def prepare(self, number: int, *, run: str | None = None, **options: Any) -> PrepareSummary:
        return prepare_batch(
            self.root,
            self.row(number),
            ledger=self.ledger,
            options=self.options(**options),
            api_host_of=self.host_of,
            run_id=run,
        )

    def context(self, *, run: str = "run-1", try_number: int = 1, **kwargs: Any) -> UploadContext:
        """Return the context of an operation; fields of its options and of their limit, too, may be given."""
        names = {field.name for field in fields(UploadOptions)}
        options = {"at_once": self.at_once} | {name: kwargs.pop(name) for name in names & kwargs.keys()}
        options["rejection_limit"] = RejectionLimit(
            kwargs.pop("max_rejected_percent", MAX_QUARANTINED_PERCENT),
            kwargs.pop("rejected_from", QUARANTINED_FROM),
        )
        given: dict[str, Any] = {
            "options": UploadOptions(**options),
            "origin": TaskOrigin(dag_id="dag", run_id=run, map_index=0, try_number=try_number),
            "timeouts": self.timeouts,
            "rebuild": rebuild_work_area,
        }
        return UploadContext(
            client=self.client,
            ledger=self.ledger,
            settings=self.settings,
            root=self.root,
            **given | kwargs,
        )

    def upload(self, number: int, **kwargs: Any) -> UploadSummary:
        return self.uploader(self.context(**kwargs), self.row(number))

    def resume(self, number: int, *, try_number: int = 2, **kwargs: Any) -> UploadSummary:
        """Upload as a later try does: it waits for the lease of the one before to end."""
        while True:
            try:
                return self.upload(number, try_number=try_number, **kwargs)
            except LeaseHeldError as error:
                time.sleep(error.retry_after)

    def run(self, window: Window | None = None, *, run: str = "run-1", **options: Any) -> Outcome:
        """Do what the DAG does: plan, then each batch on its own, whatever becomes of the others."""
        outcome = Outcome(self.plan(window, **options))
        for number in outcome.plan.batches:
            try:
                outcome.prepared[number] = self.prepare(number, run=run, **options)
                if outcome.prepared[number].accepted and not options.get("dry_run"):
                    asked = {name: bool(options.get(name)) for name in ("force", "allow_older")}
                    outcome.uploaded[number] = self.upload(number, run=run, **asked)
            except IngestError as error:
                outcome.errors[number] = error
        return outcome

    def ready(self, records: Sequence[Record | bytes], **staged: Any) -> int:
        """Stage, plan and prepare one batch; return its number."""
        options = {name: staged.pop(name) for name in list(staged) if name in RunOptions.model_fields}
        folder = self.stage(records, **staged)
        planned = self.plan(users=[staged.get("user", self.user)]).batches
        (number,) = [one for one in planned if self.row(one).batch_id == folder.name]
        self.prepare(number, **options)
        return number

    # ---------------------------------------------------------------- what became of it

    def row(self, number: int) -> BatchRow:
        return self.ledger.batches.get(number)

    def uploads(self) -> list[Upload]:
        """Return what the uploads page lists, by label."""
        return sorted(self.ledger.uploads.last_changed(), key=lambda upload: upload.label)

    def sets(self, number: int) -> list[DataSetRow]:
        return self.ledger.data_sets.of_batch(number)

    def set_states(self, number: int) -> list[DataSetState]:
        """Return the states of a batch's data sets, oldest first."""
        return [data_set.state for data_set in self.sets(number)]

    def prepared(self, number: int) -> PreparedBatch:
        prepared = WorkArea(self.root, self.row(number).content_key).load()
        assert prepared is not None
        return prepared

    def accepted(self, number: int) -> list[bytes]:
        """Return the accepted records of a prepared batch, as they lie in the work area."""
        work = WorkArea(self.root, self.row(number).content_key)
        return [line for chunk in self.prepared(number).chunks for line in work.read_chunk(chunk)]

    def quarantine_text(self, number: int) -> bytes:
        return Path(WorkArea(self.root, self.row(number).content_key).quarantine_path.path).read_bytes()

    def quarantine(self, number: int) -> list[Record]:
        return [loads(line) for line in self.quarantine_text(number).splitlines()]

    def refused(self, number: int) -> list[tuple[int, list[str]]]:
        """Return position and codes of what lies in quarantine."""
        return [
            (entry["position"], [problem["code"] for problem in entry["problems"]])
            for entry in self.quarantine(number)
        ]

    def posts(self) -> int:
        """Return how many requests with records Tidepool has seen."""
        return sum(
            request.method == "POST" and request.route.endswith("/data")
            for request in self.simulator.requests
        )

    def visible(self, user: str = "", **more: Any) -> list[Record]:
        """Return what Tidepool shows, data sets left out."""
        shown = self.client.read_data(user or self.user, **more)
        return [datum for datum in shown if datum["type"] != "upload"]

    def check(self) -> CheckResult:
        """Ask the checker, which shares no code with what it checks, whether all is as staged."""
        return check(self.staging, self.store)

    def all_right(self) -> bool:
        """Tell whether the checker finds each record visible once and nothing left behind."""
        result = self.check()
        assert result.ok, [vars(entry) for entry in result.sets if not entry.ok]
        assert not result.left_open
        return True

    def shows_once(self, number: int, rows: int) -> bool:
        """Tell whether a batch is verified, so many rows are visible, and the checker finds all right."""
        assert self.simulator.settle(PATIENCE_SECONDS)
        assert self.row(number).state is BatchState.VERIFIED
        assert len(self.visible()) == rows
        return self.all_right()


class FeedWorld(World):
    """A world whose batches are for continuous data sets: those of one program for one user."""

    data_set_type = "continuous"
    uploader = staticmethod(upload_to_feed)

    def stage(
        self,
        records: Sequence[Record | bytes] = (),
        batch: str = "b-0001",
        *,
        data_set: Record | None = None,
        **more: Any,
    ) -> Path:
        folder = super().stage(
            records, batch, data_set={"dataSetType": "continuous"} | (data_set or {}), **more
        )
        if not records and {"deletes", "retracts"} & more.keys():
            manifest = json.loads((folder / "manifest.json").read_text())
            (folder / "manifest.json").write_text(json.dumps(manifest | {"files": []}))
        return folder

    def feed(self, records: Sequence[Record | bytes], batch: str, **more: Any) -> int:
        """Stage a batch and bring it into the feed's data set; return its number."""
        number = self.ready(records, batch=batch, **more)
        self.upload(number)
        return number

    # ---------------------------------------------------------------- what became of it

    def data_sets(self, user: str = "", *, deleted: bool = False) -> list[str]:
        """Return the ids of the user's continuous data sets, as Tidepool lists them."""
        listed = self.client.data_sets(user or self.user, include_deleted=deleted)
        return [one.data_set_id for one in listed if one.data_set_type == "continuous"]

    def values(self, name: str = "value", user: str = "") -> dict[str, Any]:
        """Return a field of what is visible by time; fail if a moment is shown more than once."""
        shown = self.visible(user)
        times = Counter(row["time"] for row in shown)
        assert set(times.values()) <= {1}, times
        return {row["time"]: row.get(name) for row in shown}

    def origin_ids(self, user: str = "") -> list[str]:
        return sorted(row["origin"]["id"] for row in self.visible(user))


W = TypeVar("W", bound=World)


def _without_waiting_for_the_disk(connection: sqlite3.Connection, _record: Any) -> None:
    connection.execute("PRAGMA synchronous=OFF")


@contextmanager
def a_world(
    folder: Path, begins_with: Path | Ledger, kind: type[W], *, api: str = "", **simulated: Any
) -> Iterator[W]:
    """Make a world in a folder of its own.

    :param begins_with: its ledger, or the file of one on SQLite that it gets a copy of.
    :param kind: the class of the world.
    :param api: where Tidepool is reached; at the simulator unless told otherwise.
    :param simulated: what else the simulator is started with.
    """
    store = folder / "store.sqlite"
    with ExitStack() as stack:
        if isinstance(begins_with, Ledger):
            ledger = begins_with
        else:
            ledger = stack.enter_context(closing(copied_ledger(begins_with, folder)))
            event.listen(ledger.database.engine, "connect", _without_waiting_for_the_disk)
        simulator = stack.enter_context(Simulator(store, **simulated))
        made = kind(folder, simulator, store, ledger, api)
        yield made
        made.client.close()
        assert simulator.settle(PATIENCE_SECONDS)


def an_empty_ledger(folder: Path) -> Path:
    """Return the file of a ledger that knows nothing, for worlds to begin with a copy of."""
    file = folder / "empty.db"
    with closing(Ledger(f"sqlite:///{file}")) as ledger:
        ledger.migrate()
    return file


def copied_ledger(file: Path, folder: Path) -> Ledger:
    """Return a ledger in a folder that begins as a copy of another one."""
    copy = folder / "ledger.db"
    shutil.copy(file, copy)
    return Ledger(f"sqlite:///{copy}")


class Listener(logging.Handler):
    """Keeps all that is logged, but for what the simulator's own server says of itself."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(("uvicorn", "asyncio")):
            self.lines.append(f"{record.name}: {logging.Formatter().format(record)} {record.args!r}")


def store_and_answer_500(world: World, monkeypatch: pytest.MonkeyPatch, part: bytes) -> None:
    """Let Tidepool store each request that holds some bytes, and answer it with 500 all the same."""
    upload = world.client.upload_data

    def failing(data_set_id: str, content: bytes) -> None:
        upload(data_set_id, content)
        if part in content:
            raise TidepoolUnreachableError("upload", in_doubt=True, status=500)

    monkeypatch.setattr(world.client, "upload_data", failing)


def found_by(world: World, number: int) -> FoundBatch:
    """Return a planned batch as ``plan`` found it."""
    row = world.row(number)
    return FoundBatch(**{name: getattr(row, name) for name in FoundBatch.__dataclass_fields__})
