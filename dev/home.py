"""The folder of a local Airflow, and the environment that Airflow runs in."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tidepool_ingest.errors import IngestError

PROJECT = Path(__file__).parents[1]
"""The checkout."""

FERNET_BYTES = 32
"""Random bytes of a Fernet key, no more and no fewer."""

SECRET_BYTES = 48
"""Random bytes of the other secrets: 64 characters, as long as SHA-512 asks for (RFC 7518, section 3.2)."""


class LocalRunError(IngestError):
    """Something on this machine is in the way: a port, another run, a component that ended by itself."""


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
