"""``make up``: Airflow with its web UI, and a simulated Tidepool, until Ctrl-C."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from upath import UPath

from dev.components import LocalAirflow
from dev.home import PROJECT, Databases, LocalHome, LocalRunError
from dev.postgresql import postgresql, promise_runs
from dev.processes import STOP_SIGNALS
from dev.simulator import simulator, simulator_connection
from tidepool_ingest.client.environments import host_of
from tidepool_ingest.ledger import Ledger
from tidepool_ingest.plan import Unfinished, unfinished
from tidepool_simulator.sample import write_sample, write_sample_feed

DAG_ID = "tidepool_normal_upload"
DAG_OF_TYPE = {"normal": DAG_ID, "continuous": "tidepool_continuous_upload"}
"""Which DAG takes the batches for a type of data set; the plugin, which knows it too, would load Airflow."""

DEFAULT_PORT = 8080

FOLDER_VARIABLE = "UP_FOLDER"
"""Environment variable with the folder that holds everything, if not ``.local/up`` of the checkout."""

BY_ITSELF_VARIABLE = "UP_BY_ITSELF"
"""Environment variable that, set to anything, also runs what is due by schedule or by arrivals."""

CHECK_SECONDS = 0.5


def main() -> int:
    """Run until Ctrl-C and return 0, or 2 if something is in the way."""
    for number in STOP_SIGNALS:
        # Under nohup, closing the terminal is no reason to end.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)
    try:
        folder = Path(os.environ.get(FOLDER_VARIABLE) or PROJECT / ".local" / "up")
        run(LocalHome(folder.absolute()), port_of(os.environ.get("PORT")))
    except KeyboardInterrupt:
        print("up: stopped.", flush=True)
    except LocalRunError as error:
        print(f"up: {error}", file=sys.stderr)
        return 2
    return 0


def run(home: LocalHome, port: int) -> None:
    """Run Airflow and the simulator until this process is interrupted.

    :param home: holds what they write, and the sample, which is staged if nothing is yet.
    :param port: port of the web UI.
    :raises LocalRunError: if a port is taken, another run uses this home, or a component ends by itself.
    """
    with alone(home):
        require_free(port, "Choose another, for example: make up PORT=18080")
        practice_port = port_of_last_time(home)
        require_free(practice_port, "The simulated Tidepool used it before: end whatever uses it now.")
        if not any(home.staging.glob("*/*/*/manifest.json")):
            write_sample(home.staging, datetime.now(UTC).date())
            write_sample_feed(home.staging, datetime.now(UTC).date())
        print("up: starting Airflow; this takes about half a minute …", flush=True)
        with ExitStack() as stack:
            databases = stack.enter_context(postgresql(home.postgresql))
            roles = stack.enter_context(simulator(home, port=practice_port))
            environment = home.environment(
                tidepool=simulator_connection(roles["base_url"]), databases=databases
            )
            by_itself = bool(os.environ.get(BY_ITSELF_VARIABLE))
            airflow = LocalAirflow(environment, home.folder / "logs", port, by_itself=by_itself)
            stack.enter_context(airflow.running())
            stack.enter_context(home.open_to_shells(airflow.settings))
            promise_runs(databases, by_itself=by_itself)
            airflow.unpause(DAG_ID)
            if not by_itself:
                # Nothing runs before somebody triggers it; else feeds would go up every ten minutes, unasked.
                airflow.unpause(DAG_OF_TYPE["continuous"])
            paused = airflow.paused([path.stem for path in (PROJECT / "dags").glob("tidepool_*.py")])
            print(f"up: Airflow is at {airflow.url}/dags/{DAG_ID}: press Trigger.")
            for line in state_of_dags(paused, _left_in_staging(home, databases, roles), by_itself=by_itself):
                print(f"up: {line}")
            print(
                f"up: the staging root is {home.staging}, the simulated Tidepool is at {roles['base_url']}."
            )
            print(
                "up: to use airflow and tidepool-ingest in another terminal: "
                f". {shlex.quote(str(home.shell))}"
            )
            print("up: Ctrl-C stops everything.", flush=True)
            _watch(airflow)


def _left_in_staging(
    home: LocalHome, databases: Databases, roles: Mapping[str, str]
) -> Mapping[str, Unfinished]:
    """Return how much lies in staging and is not done, by the type of data set it is for."""
    ledger = Ledger(databases.ledger)
    try:
        ledger.migrate()
        return unfinished(UPath(home.staging), ledger, lambda _named: host_of(roles["base_url"]))
    finally:
        ledger.close()


def state_of_dags(
    paused: Mapping[str, bool], left: Mapping[str, Unfinished], *, by_itself: bool
) -> Iterator[str]:
    """Yield lines that say which DAGs are paused, and what lies in staging for them.

    :param paused: whether each DAG is.
    :param left: what lies in staging and is not done, by type of data set.
    :param by_itself: whether what is due by schedule runs.
    """
    for kind, dag_id in DAG_OF_TYPE.items():
        what, found = ("batches of feeds" if kind == "continuous" else "batches"), left.get(kind)
        state = "paused" if paused[dag_id] else "not paused"
        folders = "day folder" if found and found.days == 1 else "day folders"
        lies = f"{found.batches} {what} in {found.days} {folders}" if found else f"no {what}"
        yield f"{dag_id} is {state}; staged for it and not done: {lies}."
    others = [dag_id for dag_id in paused if dag_id not in DAG_OF_TYPE.values()]
    yield f"paused as well: {', '.join(dag_id for dag_id in others if paused[dag_id]) or 'none'}."
    yield (
        "what is due by schedule or arrives is run by itself, of DAGs that are not paused."
        if by_itself
        else f"nothing is run by schedule or on arrival; make up {BY_ITSELF_VARIABLE}=1 does that."
    )


def _watch(airflow: LocalAirflow) -> None:
    try:
        while True:
            airflow.check()
            time.sleep(CHECK_SECONDS)
    except KeyboardInterrupt:
        print("up: stopping, once running tasks have ended …", flush=True)
        raise


@contextmanager
def alone(home: LocalHome) -> Iterator[None]:
    """Make sure that no other process uses a home: two schedulers would share one database.

    :raises LocalRunError: if one does.
    """
    home.folder.mkdir(parents=True, exist_ok=True)
    with (home.folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalRunError(
                f"It is already running in {home.folder}.",
                remedy="Stop that one with Ctrl-C.",
                code="running",
            ) from None
        yield


def port_of(given: str | None) -> int:
    """Return the port that somebody asked for, or the default.

    :raises LocalRunError: if it is not a port.
    """
    if not given:
        return DEFAULT_PORT
    if not (given.isascii() and given.isdigit() and 0 < int(given) < 65_536):
        raise LocalRunError(
            "PORT is not a port number.", remedy="Give a number from 1 to 65535.", code="port"
        )
    return int(given)


def port_of_last_time(home: LocalHome) -> int:
    """Return the port of this home's simulator in the last run, or 0.

    The ledger distinguishes servers by host and port, so on another port everything would be uploaded again.
    """
    if not home.roles.exists():
        return 0
    return urlsplit(json.loads(home.roles.read_text())["base_url"]).port or 0


def require_free(port: int, remedy: str) -> None:
    """Make sure that nothing listens on a port of this machine.

    :raises LocalRunError: if something does, or this user may not use the port.
    """
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            raise LocalRunError(f"Port {port} cannot be used.", remedy=remedy, code="port") from None


def _stop(_number: int, _frame: object) -> None:
    # Once is enough: an impatient second Ctrl-C must not leave half of it running.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
