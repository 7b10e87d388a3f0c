"""A sign-in server, as far as tests need one: several grants, rotation, an end to every token."""

from __future__ import annotations

import itertools
import threading
from typing import Any

from .wire import CANARY, USER, Reply, Seen, Wire, jwt

REALM = "practice"


class SignInWire(Wire):
    """A wire that gives tokens.

    Each refresh token works once: using one again ends its whole session, as strict servers do.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lifetime: float = 600
        self.newest_refresh = "refresh-0"
        self.session_ended = False
        self.granted: list[str] = []
        self.well_known: dict[str, Any] = {"token_endpoint": f"{self.url}/realms/{REALM}/token"}
        self.info: Reply = Reply(200, {"auth": {"url": self.url, "realm": REALM}})
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self.by_route(
            {
                "GET /info": lambda seen: self.info,
                f"GET /realms/{REALM}/.well-known/openid-configuration": lambda seen: Reply(
                    200, self.well_known
                ),
                f"POST /realms/{REALM}/token": self.grant,
            }
        )

    def good(self, refresh: str) -> bool:
        return not self.session_ended and refresh == self.newest_refresh

    def grant(self, seen: Seen) -> Reply:
        form = seen.form
        with self._lock:
            self.granted.append(form["grant_type"])
            if form.get("client_id") != "ours" or form.get("client_secret", "secret") != "secret":
                return refusal(401, "invalid_client")
            if form["grant_type"] == "password" and form["password"] != "right":
                return refusal(401, "invalid_grant")
            if form["grant_type"] == "refresh_token" and not self.good(form["refresh_token"]):
                self.session_ended = True
                return refusal(400, "invalid_grant")
            number = next(self._numbers)
            answer: dict[str, Any] = {
                "access_token": jwt(sub=USER, number=number),
                "expires_in": self.lifetime,
            }
            if form["grant_type"] != "client_credentials":
                self.session_ended = False
                self.newest_refresh = f"refresh-{number}"
                answer["refresh_token"] = self.newest_refresh
            return Reply(200, answer)


def refusal(status: int, code: str) -> Reply:
    return Reply(status, {"error": code, "error_description": CANARY})
