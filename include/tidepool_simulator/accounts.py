"""The people and machines of the simulator: users, OIDC clients, and who may do what for whom.

All ids, names and secrets here are practice values: they open nothing but a simulator on loopback.

Accounts file
-------------
A JSON object; every part may be left out. Names refer to users of the file and to the three fixed ones
(``owner``, ``uploader``, ``stranger``) and ``service`` (the service account behind the OIDC client).

.. code-block:: json

    {"users":   [{"name": "patient-1", "id": "1000000001", "username": "p1@example.org", "password": "…"}],
     "clients": [{"id": "clinic-loader", "secret": "…", "user": "service"}],
     "grants":  [{"to": "service", "of": "patient-1", "permissions": ["view", "upload"]}]}

A user's ``id`` (ten hex digits or a UUID), ``username`` and ``password`` have defaults made from its name.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

OWNER_ID = "a1b2c3d4e5"
UPLOADER_ID = "b2c3d4e5f6"
STRANGER_ID = "c3d4e5f6a7"
SERVICE_ID = "5e41c1a0-0000-4000-8000-00000000a1f1"

CLIENT_ID = "tidepool-airflow"
CLIENT_SECRET = "practice-client-secret"
PUBLIC_CLIENT_ID = "tidepool-practice"
"""A client without a secret, for the password and refresh token grants."""
SERVER_NAME = "practice-server"
SERVER_SECRET = "practice-server-secret"
"""Opens ``POST /auth/serverlogin`` and ``X-Tidepool-Service-Secret``, which real users never hold."""

ROLES = ("owner", "uploader", "stranger")

OWNER_PERMISSION = "root"
CUSTODIAN_PERMISSION = "custodian"
VIEW_PERMISSION = "view"
UPLOAD_PERMISSION = "upload"
UPLOADER_PERMISSIONS = frozenset({VIEW_PERMISSION, UPLOAD_PERMISSION})
CUSTODIAN_PERMISSIONS = frozenset({CUSTODIAN_PERMISSION, VIEW_PERMISSION, UPLOAD_PERMISSION})
"""What the maker of a custodial account holds on it."""

_USER_ID = re.compile(r"[0-9a-f]{10}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class AccountError(ValueError):
    """An account, client or grant that cannot be."""


@dataclass(frozen=True)
class Account:
    """One user.

    :param name: how tests and the accounts file call it; the three roles of the replay are names.
    :param id: user id, ten hex digits or a UUID.
    :param email_verified: without it the legacy login answers 403.
    :param custodial: whether somebody else made this account; nobody logs in to it then.
    """

    name: str
    id: str
    username: str
    password: str = field(repr=False)
    email_verified: bool = True
    custodial: bool = False
    issue: Callable[[str], str] = field(repr=False, compare=False, kw_only=True)

    @property
    def token(self) -> str:
        """A fresh access token of this user, with the simulator's usual lifetime."""
        return self.issue(self.id)


@dataclass(frozen=True)
class Client:
    """One OIDC client.

    :param secret: None for a public client.
    :param user_id: the user its client credentials grant acts as; None when it has no such grant.
    """

    id: str
    secret: str | None = field(default=None, repr=False)
    user_id: str | None = None


class Accounts:
    """All users, clients and grants; safe to use from several threads.

    A new one holds the three roles, the service account and the two practice clients; ``uploader`` and
    ``service`` may view and upload for ``owner``.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._users: dict[str, Account] = {}
        self._clients: dict[str, Client] = {}
        self._grants: dict[tuple[str, str], frozenset[str]] = {}
        self._issue: Callable[[str], str] | None = None
        for name, user_id in zip(ROLES, (OWNER_ID, UPLOADER_ID, STRANGER_ID), strict=True):
            self.add_user(name, user_id=user_id)
        self.add_user("service", user_id=SERVICE_ID)
        self.add_client(CLIENT_ID, secret=CLIENT_SECRET, user="service")
        self.add_client(PUBLIC_CLIENT_ID)
        self.grant("uploader", of="owner")
        self.grant("service", of="owner")

    @classmethod
    def from_file(cls, path: Path) -> Accounts:
        """Return the practice accounts and those of a file (see the module's text).

        :raises AccountError: when it does not have the shape it should, or names a user that is not there.
        :raises OSError: when it cannot be read.
        """
        try:
            wanted = _AccountsFile.model_validate_json(path.read_bytes())
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            raise AccountError(f"accounts file {path}: {wrong}; correct the file") from error
        accounts = cls()
        for user in wanted.users:
            accounts.add_user(user.name, user_id=user.id, username=user.username, password=user.password,
                              email_verified=user.email_verified)  # fmt: skip
        for client in wanted.clients:
            accounts.add_client(client.id, secret=client.secret, user=client.user)
        for grant in wanted.grants:
            accounts.grant(grant.to, of=grant.of, permissions=grant.permissions)
        return accounts

    def __getitem__(self, name: str) -> Account:
        with self._lock:
            return self._users[name]

    def __iter__(self) -> Iterator[Account]:
        with self._lock:
            return iter(list(self._users.values()))

    def add_user(
        self,
        name: str,
        *,
        user_id: str | None = None,
        username: str | None = None,
        password: str | None = None,
        email_verified: bool = True,
        custodial: bool = False,
    ) -> Account:
        """Create a user; what is left out is made from the name.

        :raises AccountError: when the name, id or username is taken, or the id is none.
        """
        account = Account(
            name=name,
            id=user_id or hashlib.sha256(name.encode()).hexdigest()[:10],
            username=username or f"{name}@example.org",
            password=password or f"practice-password-{name}",
            email_verified=email_verified,
            custodial=custodial,
            issue=self._issue_token,
        )
        if _USER_ID.fullmatch(account.id) is None:
            raise AccountError(f"account {name!r}: its id must be ten hex digits or a UUID")
        with self._lock:
            for other in self._users.values():
                if account.name == other.name or account.id == other.id or account.username == other.username:
                    raise AccountError(f"account {name!r}: its name, id or username is taken")
            self._users[name] = account
        return account

    def add_client(self, client_id: str, *, secret: str | None = None, user: str | None = None) -> Client:
        """Create an OIDC client, or replace the one of that id.

        :param user: name of the user its client credentials act as.
        """
        client = Client(client_id, secret, self._named(user).id if user else None)
        with self._lock:
            self._clients[client_id] = client
        return client

    def grant(self, to: str, *, of: str, permissions: Iterable[str] = UPLOADER_PERMISSIONS) -> None:
        """Let one user do something for another; no permissions withdraws the grant.

        :param to: name of the user who may.
        :param of: name of the user the data belong to.
        """
        key, held = (self._named(to).id, self._named(of).id), frozenset(permissions)
        with self._lock:
            if held:
                self._grants[key] = held
            else:
                self._grants.pop(key, None)

    def client(self, client_id: str) -> Client | None:
        """Return a client by its id."""
        with self._lock:
            return self._clients.get(client_id)

    def by_id(self, user_id: str) -> Account | None:
        """Return a user by its id."""
        return next((account for account in self if account.id == user_id), None)

    def by_login(self, login: str) -> Account | None:
        """Return a user by its username or id, as the login takes either."""
        return next((account for account in self if login in (account.username, account.id)), None)

    def permissions(self, user_id: str, of: str) -> frozenset[str]:
        """Return what a user may do for another, both by id; the owner may everything."""
        if user_id == of:
            return frozenset({OWNER_PERMISSION, VIEW_PERMISSION, UPLOAD_PERMISSION})
        with self._lock:
            return self._grants.get((user_id, of), frozenset())

    def trustors(self, user_id: str) -> Mapping[str, frozenset[str]]:
        """Return the users who granted something to a user: id to permissions."""
        with self._lock:
            return {of: held for (to, of), held in self._grants.items() if to == user_id}

    def trustees(self, user_id: str) -> Mapping[str, frozenset[str]]:
        """Return the users whom a user granted something: id to permissions."""
        with self._lock:
            return {to: held for (to, of), held in self._grants.items() if of == user_id}

    def issue_tokens_with(self, issue: Callable[[str], str]) -> None:
        """Set where the ``token`` of an account comes from."""
        self._issue = issue

    def _issue_token(self, user_id: str) -> str:
        if self._issue is None:
            raise AccountError("there are no tokens before a simulator runs with these accounts")
        return self._issue(user_id)

    def _named(self, name: str) -> Account:
        with self._lock:
            if name not in self._users:
                raise AccountError(f"there is no account {name!r}")
            return self._users[name]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _UserEntry(_Strict):
    name: str
    id: str | None = None
    username: str | None = None
    password: str | None = None
    email_verified: bool = True


class _ClientEntry(_Strict):
    id: str
    secret: str | None = None
    user: str | None = None


class _GrantEntry(_Strict):
    to: str
    of: str
    permissions: list[str] = Field(default_factory=lambda: sorted(UPLOADER_PERMISSIONS))


class _AccountsFile(_Strict):
    users: list[_UserEntry] = Field(default_factory=list)
    clients: list[_ClientEntry] = Field(default_factory=list)
    grants: list[_GrantEntry] = Field(default_factory=list)
