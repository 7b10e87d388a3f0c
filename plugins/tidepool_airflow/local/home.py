"""Where a local Airflow keeps its things, and the environment it runs in."""

from __future__ import annotations

import base64
import json
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[3]
"""The checkout."""

FERNET_BYTES = 32
"""Random bytes of a Fernet key, no more and no fewer."""

SECRET_BYTES = 48
"""Random bytes of the other secrets: 64 characters, as long as SHA-512 asks for (RFC 7518, section 3.2)."""


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

    def environment(self, *, tidepool: dict[str, object] | None = None) -> dict[str, str]:
        """Return the environment variables of a local Airflow.

        :param tidepool: the connection ``tidepool_default``.
        """
        self.airflow.mkdir(parents=True, exist_ok=True)
        self.staging.mkdir(parents=True, exist_ok=True)
        values = {
            "AIRFLOW_HOME": str(self.airflow),
            "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__FERNET_KEY": self._secret("fernet_key", FERNET_BYTES),
            "AIRFLOW__API_AUTH__JWT_SECRET": self._secret("jwt_secret"),
            "AIRFLOW__API__SECRET_KEY": self._secret("api_secret_key"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.airflow / 'airflow.db'}",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW_CONN_TIDEPOOL_LEDGER": json.dumps({"conn_type": "sqlite", "host": str(self.ledger)}),
            "TIDEPOOL_STAGING_ROOT": str(self.staging),
            "TIDEPOOL_LEDGER": f"sqlite:///{self.ledger}",
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
