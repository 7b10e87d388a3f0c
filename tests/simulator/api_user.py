"""What one user does to the simulator."""

from __future__ import annotations

import secrets
from typing import Any

import requests

from tests.factories import HASH
from tidepool_simulator import Simulator


class ApiUser:
    """What one user does to the simulator; every test has a device of its own."""

    def __init__(self, simulator: Simulator, role: str = "owner", device: str = "") -> None:
        self.simulator = simulator
        self.user = simulator.accounts["owner"].id
        self.device = device or f"device-{secrets.token_hex(6)}"
        self.session = requests.Session()
        self.session.headers["X-Tidepool-Session-Token"] = simulator.accounts[role].token

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.session.request(method, f"{self.simulator.base_url}{path}", timeout=20, **options)

    def open(self, deduplicator: str = HASH, **body: Any) -> str:
        body = {"deviceId": self.device, "deduplicator": {"name": deduplicator}} | body
        response = self.request("POST", f"/v1/users/{self.user}/data_sets", json=body)
        assert response.status_code == 201, response.text
        return str(response.json()["data"]["uploadId"])

    def post(self, data_set: str, data: Any) -> requests.Response:
        return self.request("POST", f"/v1/data_sets/{data_set}/data", json=data)

    def remove(self, data_set: str, selectors: Any) -> requests.Response:
        return self.request("DELETE", f"/v1/data_sets/{data_set}/data", json=selectors)

    def close(self, data_set: str) -> requests.Response:
        return self.request("PUT", f"/v1/data_sets/{data_set}", json={"dataState": "closed"})

    def delete(self, data_set: str) -> requests.Response:
        return self.request("DELETE", f"/v1/data_sets/{data_set}")

    def uploaded(self, data: list[dict[str, Any]], deduplicator: str = HASH) -> str:
        """Open a data set, fill and close it."""
        data_set = self.open(deduplicator)
        assert self.post(data_set, data).status_code == 200
        assert self.close(data_set).status_code == 200
        return data_set

    def visible(self, **query: str) -> list[dict[str, Any]]:
        """Return what the read-back shows of the device, data sets left out."""
        response = self.request("GET", f"/data/{self.user}", params={"deviceId": self.device} | query)
        assert response.status_code == 200, response.text
        return [datum for datum in response.json() if datum["type"] != "upload"]

    def values(self, **query: str) -> list[float]:
        """Return the visible glucose values."""
        return sorted(datum["value"] for datum in self.visible(**query))

    def cbg(self, value: float, minute: int = 0, **fields: Any) -> dict[str, Any]:
        return {
            "type": "cbg",
            "time": f"2024-05-01T10:{minute:02d}:00Z",
            "deviceId": self.device,
            "units": "mmol/L",
            "value": value,
        } | fields
