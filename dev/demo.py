"""``make demo``: both jobs through Airflow, against a simulated Tidepool, on sample data.

Nothing outside this machine is contacted. The numbers of visible and lost records come from the checker,
which reads the staged files and the simulator's own store and shares no code with what it checks.

``python -m dev.demo DAG_ID`` runs one DAG in the environment that it finds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime

from dev.home import PROJECT, LocalHome, LocalRunError
from dev.simulator import simulator, simulator_connection
from tidepool_ingest.cli.arguments import table
from tidepool_ingest.ledger import Ledger, Upload
from tidepool_simulator.sample import (
    SAMPLE_USERS,
    write_sample,
    write_sample_exports,
    write_sample_feed,
)
from tidepool_simulator.sample.checker.check import check
from tidepool_simulator.sample.checker.result import CheckResult

DAGS = ("tidepool_normal_upload", "tidepool_continuous_upload")

COLUMNS = ("user", "device", "format", "data set id", "accepted", "quarantined", "visible", "state")


def main() -> int:
    """Run the demo; return 0 only if every data set is verified, nothing lost, duplicated or left open."""
    home = LocalHome(PROJECT / ".local" / "demo")
    shutil.rmtree(home.folder, ignore_errors=True)
    today = datetime.now(UTC).date()
    sample, feed = write_sample(home.staging, today), write_sample_feed(home.staging, today)
    exports = write_sample_exports(home.staging, today)
    print(
        f"demo: {sample.records} sample records of {len(SAMPLE_USERS)} people, {feed.records} of a feed and "
        f"{exports.rows} rows of exports staged in {home.staging}",
        flush=True,
    )
    for name in exports.left_out:
        print(f"demo: the batch {name} is left out, because the library that reads it is not installed")
    with simulator(home) as roles:
        print(f"demo: the simulated Tidepool listens at {roles['base_url']}; running the DAGs …", flush=True)
        state = run_dags(home, simulator_connection(roles["base_url"]))
    result = check(home.staging, home.simulator_store)
    found = _sessions(home)
    batches = len(sample.batches) + len(feed.batches) + len(exports.batches)
    print(table(COLUMNS, rows_of(found, result)))
    return conclude(state, found, result, batches=batches)


def run_dags(home: LocalHome, tidepool: dict[str, object]) -> str:
    """Run each DAG once, each task as Airflow runs it, and return the state of the runs."""
    environment = {**os.environ, **home.environment(tidepool=tidepool), "TIDEPOOL_RETRIES": "0"}
    log = home.folder / "airflow.log"
    with log.open("wb") as output:
        for module in ("airflow db migrate", *(f"dev.demo {dag}" for dag in DAGS)):
            command = [sys.executable, "-m", *module.split()]
            ended = subprocess.run(command, check=False, env=environment, stdout=output, stderr=output)
            if ended.returncode:
                print(f"demo: Airflow's own log is {log}")
                return "failed"
    return "success"


def run_dag(dag_id: str) -> int:
    """Run a DAG in this process without a logical date, as its trigger button does.

    :return: 0 if the run succeeded, 1 if it failed, 2 if a DAG file cannot be loaded.
    """
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(PROJECT / "dags"))
    for path, error in bag.import_errors.items():
        print(f"{path}: {error}", file=sys.stderr)
    if bag.import_errors:
        return 2
    run = bag.dags[dag_id].test(logical_date=None)
    return 0 if str(run.state) == "success" else 1


def rows_of(found: list[Upload], result: CheckResult) -> list[tuple[object, ...]]:
    """Return a row for each data set: what the ledger says, and what the checker counts as visible."""
    visible = {entry.data_set_id: entry.visible for entry in result.sets}
    devices = {entry.data_set_id: entry.device_id for entry in result.sets}
    formats = {entry.data_set_id: ", ".join(entry.formats) for entry in result.sets}
    # The batches of a feed share one data set.
    batches: dict[str, list[Upload]] = {}
    for upload in sorted(found, key=lambda upload: (upload.user_id, upload.label)):
        batches.setdefault(upload.data_set_id or upload.label, []).append(upload)
    return [
        (
            group[0].user_id,
            devices.get(group[0].data_set_id or "", "-"),
            formats.get(group[0].data_set_id or "") or "-",
            group[0].data_set_id or "-",
            sum(upload.accepted or 0 for upload in group),
            sum(upload.quarantined or 0 for upload in group),
            visible.get(group[0].data_set_id or "", 0),
            ", ".join(sorted({upload.data_set_state or upload.state for upload in group})),
        )
        for group in batches.values()
    ]


def conclude(state: str, found: list[Upload], result: CheckResult, *, batches: int) -> int:
    """Print whatever is wrong, and the summary as the last line.

    :param state: the state of the DAG runs.
    :param found: the ledger's batches with their data sets.
    :param result: the checker's findings.
    :param batches: how many batches were staged.
    :return: the exit code.
    """
    verified = [upload for upload in found if upload.data_set_state == "verified"]
    sets = Counter(upload.data_set_id for upload in verified)
    seen = {entry.data_set_id: entry.visible for entry in result.sets}
    wrong = []
    if state != "success":
        wrong.append(f"a run ended as {state}")
    if len(verified) != batches:
        wrong.append(f"{len(verified)} of {batches} batches are verified")
    for name in ("double", "foreign", "left_open", "unreachable"):
        if number := getattr(result, name):
            wrong.append(f"{number} {name.replace('_', ' ')}")
    if result.unreadable:
        wrong.append(f"{len(result.unreadable)} batches cannot be read")
    wrong += [
        f"data set {upload.data_set_id}: ledger and store differ"
        for upload in verified
        if sets[upload.data_set_id] == 1 and seen.get(upload.data_set_id or "") != upload.visible_rows
    ]
    if sum(upload.quarantined or 0 for upload in found) != result.quarantined:
        wrong.append("ledger and quarantine files differ")
    for line in wrong:
        print(f"demo: WRONG: {line}")
    print(
        f"demo: {len(sets)} data sets verified, {result.visible} records visible, "
        f"{result.quarantined} quarantined, {result.lost} lost"
    )
    return 1 if wrong or result.lost or not result.ok else 0


def _sessions(home: LocalHome) -> list[Upload]:
    ledger = Ledger(f"sqlite:///{home.ledger}")
    try:
        return ledger.uploads.last_changed()
    finally:
        ledger.close()


if __name__ == "__main__":
    try:
        sys.exit(run_dag(sys.argv[1]) if sys.argv[1:] else main())
    except LocalRunError as error:
        sys.exit(f"demo: {error}")
