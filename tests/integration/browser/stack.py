"""A real Airflow with accounts, as the tests in a browser find it."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from dev.components import Account, LocalAirflow
from dev.home import LocalHome
from dev.simulator import simulator_connection
from playwright.sync_api import Page

from tests import PROJECT
from tidepool_ingest.ledger import Ledger, Upload
from tidepool_simulator.sample import write_sample

PATIENCE = 90_000
"""Milliseconds that a page may take to show something: two cores do all the work."""


SCREENSHOTS = PROJECT / ".local" / "browser"


DAG_ID = "tidepool_normal_upload"


CONN_ID = "tidepool_default"


ADMIN = Account("ada", "admin", "practice-password-1")


VIEWER = Account("vic", "viewer", "practice-password-2")


@dataclass(frozen=True)
class Stack:
    """Airflow as ``make up`` runs it, but for accounts and a connection to Tidepool, which is to be made."""

    home: LocalHome
    airflow: LocalAirflow
    roles: dict[str, Any]

    def uploads(self) -> list[Upload]:
        """Return what the ledger knows."""
        with closing(Ledger(self.airflow.settings["TIDEPOOL_LEDGER"])) as ledger:
            ledger.migrate()
            return ledger.uploads.last_changed()

    def connect(self) -> None:
        """Make the connection to Tidepool, if there is none."""
        if self.airflow.request("GET", f"/api/v2/connections/{CONN_ID}").ok:
            return
        connection = simulator_connection(self.roles["base_url"])
        body = {**connection, "connection_id": CONN_ID, "extra": json.dumps(connection["extra"])}
        made = self.airflow.request("POST", "/api/v2/connections", body)
        assert made.ok, made.text

    def stage_sample(self, day: date, user_id: str) -> int:
        """Stage the sample's batches of one person, and return how many they are.

        :param day: the day folder.
        :param user_id: one of the sample's people. No two tests upload for the same one: a newer batch of a
            device hides an older one.
        """
        with tempfile.TemporaryDirectory(prefix="tidepool-sample-") as made:
            written = write_sample(Path(made), day)
            batches = [batch.path for batch in written.batches if batch.user_id == user_id]
            for batch in batches:
                shutil.copytree(batch, self.home.staging / batch.relative_to(made))
        return len(batches)

    def api(self, path: str) -> Any:
        """Ask Airflow's API."""
        response = self.airflow.request("GET", f"/api/v2{path}")
        assert response.ok, response.text
        return response.json()


Visitor = Callable[[Account], Page]


def shoot(page: Page, name: str) -> None:
    """Keep what a page shows as build output."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")
