"""Where a local Airflow keeps its things, and the environment it runs in."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow.dag_processing.dagbag import DagBag

from dev.processes import LocalProcess, end
from tidepool_ingest.errors import IngestError
from tidepool_simulator.accounts import CLIENT_ID, CLIENT_SECRET
from tidepool_simulator.sample import practice_accounts

PROJECT = Path(__file__).parents[1]
"""The checkout."""

FERNET_BYTES = 32
"""Random bytes of a Fernet key, no more and no fewer."""

SECRET_BYTES = 48
"""Random bytes of the other secrets: 64 characters, as long as SHA-512 asks for (RFC 7518, section 3.2)."""


@dataclass(frozen=True)
class Databases:
    """Where a local Airflow and the ledger keep their tables.

    :param airflow: SQLAlchemy URL of Airflow's own database.
    :param ledger: SQLAlchemy URL of the ledger's, which is an Airflow connection's URI too.
    """

    airflow: str
    ledger: str


@dataclass(frozen=True)
class LocalHome:
    """A folder that holds everything a local Airflow writes.

    :param folder: the folder, created if it is not there.
    """

    folder: Path

    @property
    def airflow(self) -> Path:
        """Airflow's own folder."""
        return self.folder / "airflow"

    @property
    def staging(self) -> Path:
        """The staging root."""
        return self.folder / "staging"

    @property
    def ledger(self) -> Path:
        """The embedded ledger."""
        return self.airflow / "tidepool_ledger.db"

    @property
    def simulator_store(self) -> Path:
        """What the simulated Tidepool holds."""
        return self.folder / "simulator.db"

    @property
    def roles(self) -> Path:
        """Address and accounts of the simulator, written once it listens."""
        return self.folder / "roles.json"

    @property
    def postgresql(self) -> Path:
        """Where a database server keeps its data."""
        return self.folder / "postgresql"

    @property
    def shell(self) -> Path:
        """What a shell reads to speak to this Airflow while it runs."""
        return self.folder / "env"

    @contextmanager
    def open_to_shells(self, environment: Mapping[str, str]) -> Iterator[None]:
        """Let other shells find a running Airflow for the length of a ``with`` block.

        :param environment: its environment variables, secrets among them.
        """
        lines = (f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
        self.shell.unlink(missing_ok=True)
        self.shell.touch(mode=0o600)
        self.shell.write_text("".join(lines))
        try:
            yield
        finally:
            self.shell.unlink(missing_ok=True)

    @property
    def databases(self) -> Databases:
        """The databases of a run without a server: two SQLite files."""
        return Databases(
            airflow=f"sqlite:///{self.airflow / 'airflow.db'}", ledger=f"sqlite:///{self.ledger}"
        )

    def environment(
        self, *, tidepool: dict[str, object] | None = None, databases: Databases | None = None
    ) -> dict[str, str]:
        """Return the environment variables of a local Airflow.

        :param tidepool: the connection ``tidepool_default``.
        :param databases: on a server; SQLite files if not given.
        """
        self.airflow.mkdir(parents=True, exist_ok=True)
        self.staging.mkdir(parents=True, exist_ok=True)
        databases = databases or self.databases
        values = {
            "AIRFLOW_HOME": str(self.airflow),
            "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__FERNET_KEY": self._secret("fernet_key", FERNET_BYTES),
            "AIRFLOW__API_AUTH__JWT_SECRET": self._secret("jwt_secret"),
            "AIRFLOW__API__SECRET_KEY": self._secret("api_secret_key"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": databases.airflow,
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW_CONN_TIDEPOOL_LEDGER": databases.ledger,
            "TIDEPOOL_STAGING_ROOT": str(self.staging),
            "TIDEPOOL_LEDGER": databases.ledger,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        }
        if tidepool is not None:
            values["AIRFLOW_CONN_TIDEPOOL_DEFAULT"] = json.dumps(tidepool)
        return values

    def _secret(self, name: str, size: int = SECRET_BYTES) -> str:
        """Return a secret of this home, made once and readable by its owner only."""
        path = self.folder / f".{name}"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(base64.urlsafe_b64encode(secrets.token_bytes(size)).decode())
        return path.read_text()


def simulator_connection(base_url: str) -> dict[str, object]:
    """Return the connection ``tidepool_default`` for a simulator.

    :param base_url: where it listens.
    """
    extra: dict[str, Any] = {
        "auth_mode": "client_credentials",
        "client_name": "org.example.tidepool-airflow",
        "client_version": "1.0.0",
    }
    return {
        "conn_type": "tidepool",
        "host": base_url,
        "login": CLIENT_ID,
        "password": CLIENT_SECRET,
        "extra": extra,
    }


class LocalRunError(IngestError):
    """Something on this machine is in the way: a port, another run, a part that ended by itself."""


def main(dag_id: str) -> int:
    """Run a DAG without a logical date, as its trigger button does; return 0 if the run succeeded."""
    bag = DagBag(str(PROJECT / "dags"))
    for path, error in bag.import_errors.items():
        print(f"{path}: {error}", file=sys.stderr)
    if bag.import_errors:
        return 2
    run = bag.dags[dag_id].test(logical_date=None)
    return 0 if str(run.state) == "success" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))


START_SECONDS = 30.0
"""How long the simulator may take to listen."""


@contextmanager
def simulator(home: LocalHome, *, port: int = 0) -> Iterator[dict[str, Any]]:
    """Run a simulator for the length of a ``with`` block.

    Its accounts are the practice ones, and the sample's people, for whom the connection may upload.

    :param home: where its store and its accounts file lie.
    :param port: where it listens; any free port for 0.
    :return: its roles file: ``base_url`` and the practice accounts.
    """
    accounts = home.folder / "accounts.json"
    accounts.parent.mkdir(parents=True, exist_ok=True)
    accounts.write_text(json.dumps(practice_accounts()))
    home.roles.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tidepool_ingest", "simulate", "--port", str(port)]
    command += [
        "--store",
        str(home.simulator_store),
        "--accounts",
        str(accounts),
        "--write-roles",
        str(home.roles),
    ]
    process = LocalProcess(command)
    try:
        yield _roles(home, process)
    finally:
        end([process])


def _roles(home: LocalHome, process: LocalProcess) -> dict[str, Any]:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up and not process.has_ended:
        if home.roles.exists():
            roles: dict[str, Any] = json.loads(home.roles.read_text())
            return roles
        time.sleep(0.05)
    raise LocalRunError("The simulator did not start.", remedy="Its own messages say why.", code="simulator")
