"""Who visits the uploads page, and what a visitor sends."""

from __future__ import annotations

import re
from collections.abc import Callable

from fastapi.testclient import TestClient

PAGE = "/tidepool/uploads"


OWN = {"sec-fetch-site": "same-origin"}


Visitor = Callable[[str], TestClient]


def switch(*, on: bool, dag_id: str = "") -> None:
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session() as session:
        changed = update(DagModel).values(is_paused=not on)
        session.execute(changed.where(DagModel.dag_id == dag_id) if dag_id else changed)


def token_on(client: TestClient, batch: int) -> str:
    page = client.get(f"{PAGE}/{batch}")
    assert page.status_code == 200
    found = re.search('data-token="([^"]+)"', page.text)
    assert found is not None
    return found[1]
