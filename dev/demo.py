"""``make demo``: both jobs through Airflow, against a simulated Tidepool, on sample data.

Nothing outside this machine is asked for anything. What is printed as visible and lost comes from the
checker, which reads the staged files and the simulator's own store and shares no code with what it checks.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime

from dev.home import PROJECT, LocalHome, LocalRunError, simulator, simulator_connection
from tidepool_ingest.cli.arguments import table
from tidepool_ingest.ledger import Ledger, Upload
from tidepool_simulator.sample import SAMPLE_USERS, write_sample, write_sample_feed
from tidepool_simulator.sample.checker.check import check
from tidepool_simulator.sample.checker.result import CheckResult

DAGS = ("tidepool_normal_upload", "tidepool_continuous_upload")

COLUMNS = ("user", "device", "data set id", "accepted", "quarantined", "visible", "state")


def main() -> int:
    """Run the demo; return 0 only if every data set is verified and nothing is lost, double or left open."""
    home = LocalHome(PROJECT / ".local" / "demo")
    shutil.rmtree(home.folder, ignore_errors=True)
    today = datetime.now(UTC).date()
    sample, feed = write_sample(home.staging, today), write_sample_feed(home.staging, today)
    print(
        f"demo: {sample.records} sample records of {len(SAMPLE_USERS)} people and {feed.records} of a feed "
        f"staged in {home.staging}",
        flush=True,
    )
    with simulator(home) as roles:
        print(f"demo: a simulated Tidepool listens at {roles['base_url']}; running the DAGs …", flush=True)
        state = run_dags(home, simulator_connection(roles["base_url"]))
    result = check(home.staging, home.simulator_store)
    found = _sessions(home)
    print(table(COLUMNS, rows_of(found, result)))
    return conclude(state, found, result, batches=len(sample.batches) + len(feed.batches))


def run_dags(home: LocalHome, tidepool: dict[str, object]) -> str:
    """Run each DAG once, each task as Airflow runs it, and return what became of the runs."""
    environment = {**os.environ, **home.environment(tidepool=tidepool), "TIDEPOOL_RETRIES": "0"}
    log = home.folder / "airflow.log"
    with log.open("wb") as output:
        for module in ("airflow db migrate", *(f"dev.home {dag}" for dag in DAGS)):
            command = [sys.executable, "-m", *module.split()]
            ended = subprocess.run(command, check=False, env=environment, stdout=output, stderr=output)
            if ended.returncode:
                print(f"demo: Airflow's own log is {log}")
                return "failed"
    return "success"


def rows_of(found: list[Upload], result: CheckResult) -> list[tuple[object, ...]]:
    """Return one line a data set: the ledger's words, and the checker's count of what is visible."""
    visible = {entry.data_set_id: entry.visible for entry in result.sets}
    devices = {entry.data_set_id: entry.device_id for entry in result.sets}
    # Of a feed, many batches share one data set.
    batches: dict[str, list[Upload]] = {}
    for one in sorted(found, key=lambda one: (one.user_id, one.label)):
        batches.setdefault(one.data_set_id or one.label, []).append(one)
    return [
        (
            ones[0].user_id,
            devices.get(ones[0].data_set_id or "", "-"),
            ones[0].data_set_id or "-",
            sum(one.accepted or 0 for one in ones),
            sum(one.quarantined or 0 for one in ones),
            visible.get(ones[0].data_set_id or "", 0),
            ", ".join(sorted({one.data_set_state or one.state for one in ones})),
        )
        for ones in batches.values()
    ]


def conclude(state: str, found: list[Upload], result: CheckResult, *, batches: int) -> int:
    """Print the last line, and before it whatever is not as it should be.

    :param state: of the DAG runs.
    :param found: the ledger's sessions.
    :param result: the checker's findings.
    :param batches: how many batches were staged.
    :return: the exit code.
    """
    verified = [one for one in found if one.data_set_state == "verified"]
    sets = Counter(one.data_set_id for one in verified)
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
        f"data set {one.data_set_id}: ledger and store differ"
        for one in verified
        if sets[one.data_set_id] == 1 and seen.get(one.data_set_id or "") != one.visible_rows
    ]
    if sum(one.quarantined or 0 for one in found) != result.quarantined:
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
        sys.exit(main())
    except LocalRunError as error:
        sys.exit(f"demo: {error}")
