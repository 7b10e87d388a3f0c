"""The simulator as a command, its accounts and its store."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests

from tests.factories import HASH, NONE
from tests.simulator.api_user import ApiUser
from tests.timing import PATIENCE_SECONDS
from tidepool_simulator import Accounts, Fault, Simulator
from tidepool_simulator.accounts import AccountError

COMMAND = """
import sys
from pathlib import Path
from tidepool_simulator import serve
folder = Path(sys.argv[1])
files = {name: folder / name for name in ("store", "accounts")}
sys.exit(serve(**files, write_roles=folder / "roles", token_lifetime=5))
"""


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_as_a_command(tmp_path: Path, ending: signal.Signals) -> None:
    (tmp_path / "accounts").write_text(json.dumps({"users": [{"name": "patient", "id": "1000000001"}]}))
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    roles = json.loads((tmp_path / "roles").read_text())
    assert line == f"simulator: listening on {roles['base_url']}\n"
    assert (tmp_path / "roles").stat().st_mode & 0o077 == 0
    response = requests.get(
        f"{roles['base_url']}/v1/users/{roles['owner']['id']}/data_sets",
        headers={"X-Tidepool-Session-Token": roles["uploader"]["token"]},
        timeout=10,
    )
    assert response.json() == []
    process.send_signal(ending)
    out, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out, errors) == (0, "", "")


def test_the_store_is_readable_beside_the_running_simulator(tmp_path: Path) -> None:
    store = tmp_path / "store.sqlite"
    with Simulator(store) as simulator:
        assert {path.stat().st_mode & 0o077 for path in tmp_path.glob("store.sqlite*")} == {0}
        hands = ApiUser(simulator)
        older = hands.uploaded([hands.cbg(5.5)])
        newer = hands.uploaded([hands.cbg(5.5)])
        checker = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
        rows = checker.execute("SELECT upload_id, active, archived_by FROM data ORDER BY seq").fetchall()
        assert rows == [(older, 0, newer), (newer, 1, None)]
        sets = checker.execute(
            "SELECT upload_id, user_id, device_id, state, active FROM data_sets"
        ).fetchall()
        assert sets == [(data_set, hands.user, hands.device, "closed", 1) for data_set in (older, newer)]
        checker.close()
    with Simulator(store) as again:
        hands = ApiUser(again, device=hands.device)
        assert hands.values() == [5.5]


def test_a_request_about_one_data_set_does_not_go_through_all_that_its_user_has(tmp_path: Path) -> None:
    """A day's fleet shares its users: else each upload takes longer than the one before."""
    statements: list[str] = []
    with Simulator(tmp_path / "store.sqlite") as simulator:
        hands = ApiUser(simulator)
        with simulator.database.reading() as connection:
            connection.set_trace_callback(statements.append)
        for deduplicator in (HASH, NONE):
            data_set = hands.uploaded([hands.cbg(5.5)], deduplicator)
            assert hands.values(uploadId=data_set) == [5.5]
            hands.delete(data_set)
        with simulator.database.reading() as connection:
            connection.set_trace_callback(None)
            plans = {
                text: [step for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {text}")]
                for text in statements
                if " data " in text and not text.startswith("INSERT")
            }
    assert len(plans) > 8
    assert [text for text, steps in plans.items() if any(_goes_through_a_user(step) for step in steps)] == []


def _goes_through_a_user(step: str) -> bool:
    return step.startswith("SCAN data") or step.endswith("(user_id=?)")


def test_accounts_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "accounts.json"
    path.write_text(json.dumps({
        "users": [{"name": "one", "id": "1000000001"}, {"name": "two"}],
        "clients": [{"id": "loader", "secret": "s", "user": "two"}],
        "grants": [{"to": "uploader", "of": "one"}, {"to": "two", "of": "one", "permissions": ["view"]}],
    }))  # fmt: skip
    accounts = Accounts.from_file(path)
    one, two = accounts["one"], accounts["two"]
    assert accounts.permissions(accounts["uploader"].id, one.id) == {"view", "upload"}
    assert accounts.permissions(two.id, one.id) == {"view"}
    assert accounts.permissions(one.id, two.id) == frozenset()
    client = accounts.client("loader")
    assert client is not None
    assert client.user_id == two.id
    assert "password" not in repr(one)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"users": [{"name": "x", "colour": "red"}]}, "users.0.colour"),
        ({"users": [{"name": "x", "id": "short"}]}, "ten hex digits or a UUID"),
        ({"users": [{"name": "owner"}]}, "is taken"),
        ({"grants": [{"to": "nobody", "of": "owner"}]}, "no account 'nobody'"),
    ],
)
def test_accounts_files_that_cannot_be(tmp_path: Path, content: object, reason: str) -> None:
    path = tmp_path / "accounts.json"
    path.write_text(json.dumps(content))
    with pytest.raises(AccountError, match=reason):
        Accounts.from_file(path)


def test_a_withdrawn_grant_is_gone() -> None:
    accounts = Accounts()
    accounts.grant("uploader", of="owner", permissions=())
    assert accounts.permissions(accounts["uploader"].id, accounts["owner"].id) == frozenset()


def test_posts_at_once_are_all_stored(owner: ApiUser) -> None:
    data_set = owner.open(HASH)
    chunks = [
        [owner.cbg(5.5, minute, id=f"{chunk:016d}{minute:016d}") for minute in range(50)]
        for chunk in range(16)
    ]
    threads = [threading.Thread(target=owner.post, args=(data_set, chunk)) for chunk in chunks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    owner.close(data_set)
    assert len({datum["id"] for datum in owner.visible()}) == 800


def test_a_thousand_records_are_stored_fast(owner: ApiUser) -> None:
    data_set = owner.open(HASH)
    data = [owner.cbg(5.5, index % 60, id=f"{index:032d}") for index in range(1000)]
    owner.post(data_set, data)
    began = time.process_time()  # the simulator is in this process; others do not count
    assert owner.post(data_set, data).status_code == 200
    assert time.process_time() - began < 1.0  # about 0.1 s


def test_two_simulators_do_not_share_anything() -> None:
    with Simulator() as first, Simulator() as other:
        first.faults.add(Fault.refused("time", 503))
        assert ApiUser(first).request("GET", "/v1/time").status_code == 503
        assert ApiUser(other).request("GET", "/v1/time").status_code == 200
        ApiUser(first).open(NONE)
        with other.database.reading() as connection:
            assert connection.execute("SELECT count(*) FROM data_sets").fetchone() == (0,)


def test_roles_tell_how_to_log_in(simulator: Simulator) -> None:
    roles = simulator.roles()
    login = roles["login"]
    for password, status in ((login["password"], 200), (login["wrong_password"], 401)):
        response = requests.post(
            f"{simulator.base_url}/auth/login", auth=(login["username"], password), timeout=10
        )
        assert response.status_code == status
