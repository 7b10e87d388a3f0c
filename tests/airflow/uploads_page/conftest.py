"""The uploads page as Airflow's API server mounts it, and who visits it."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.airflow.uploads_page.visiting import Visitor, switch
from tests.airflow.world import AirflowWorld


@pytest.fixture
def visit(world: AirflowWorld, api_server: Any) -> Visitor:
    """Sign somebody in by their role."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    switch(on=True)

    def signed_in(role: str) -> TestClient:
        client = TestClient(api_server)
        if role:
            user = SimpleAuthManagerUser(username=f"{role}-name", role=role.upper())
            client.cookies.set("_token", get_auth_manager().generate_jwt(user))
        return client

    return signed_in
