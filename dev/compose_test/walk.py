"""What happens to the stack, step by step: it is started, used, disturbed, saved and restored."""

from __future__ import annotations

import shlex
import stat
from collections.abc import Callable
from dataclasses import dataclass

from dev.compose_test.engine import wait_until
from dev.compose_test.stack import DAG_ID, NAME, STAGING, Stack, block_of_manual, hindrances
from dev.home import LocalRunError

POOL_SLOTS = 5
"""What somebody sets the pool to, in Airflow's UI."""

REACHABLE_SECONDS = 300.0


@dataclass(frozen=True)
class Step:
    """A step of the walk.

    :param title: what it does and what has to hold, as in the table.
    :param work: does it, and returns what is worth noting; raises ``LocalRunError`` if it does not hold.
    """

    title: str
    work: Callable[[Stack], str]


def build(stack: Stack) -> str:
    """Build the image, once."""
    (name,) = {
        name for name in stack.compose("config", "--images").split() if name.startswith("tidepool-airflow:")
    }
    # The image that had the name until now has none afterwards.
    before = stack.engine.untagged() | {stack.engine.image(name)}
    stack.compose("build")
    require(stack.engine.untagged() <= before, "the build has left images without a tag")
    return name


def start(stack: Stack) -> str:
    """Start everything and wait for it."""
    stack.up()
    stack.until_healthy()
    return ""


def check_before(stack: Stack) -> str:
    """Let the manual's check find nothing; then something, which ``airflow-init`` refuses too."""
    found = stack.in_the_way()
    require(not found, f"something is in the way: {' '.join(found).removesuffix('.')}")
    secret = stack.settings["AIRFLOW_JWT_SECRET"]
    stack.set("AIRFLOW_JWT_SECRET", "short")
    found = stack.in_the_way()
    named = [line.split()[0] for line in found]
    require(named == ["AIRFLOW_JWT_SECRET"], f"a short secret is not what is named, but: {' '.join(found)}")
    refused = ""
    try:
        stack.up()
    except LocalRunError:
        refused = stack.compose("logs", "--no-color", "--no-log-prefix", "airflow-init")
    require(hindrances(refused.splitlines()) == found, "airflow-init does not keep Airflow from starting")
    running = set(stack.compose("ps", "--services").split())
    require(not any(name.startswith("airflow-") for name in running), "of Airflow, something runs")
    stack.set("AIRFLOW_JWT_SECRET", secret)
    return "a short secret is named, and keeps Airflow from starting"


def read_dags(stack: Stack) -> str:
    """Wait until Airflow has read the DAG files, and unpause the upload."""
    errors: list[object] = []

    def read() -> bool:
        errors[:] = stack.api("GET", "/api/v2/importErrors")["import_errors"]
        dags = stack.api("GET", "/api/v2/dags")["dags"]
        return bool(errors) or DAG_ID in {dag["dag_id"] for dag in dags}

    wait_until(read, "Airflow has read the DAG files", REACHABLE_SECONDS)
    require(not errors, "a DAG file cannot be imported")
    stack.api("PATCH", f"/api/v2/dags/{DAG_ID}?update_mask=is_paused", {"is_paused": False})
    return f"{len(stack.api('GET', '/api/v2/dags')['dags'])} DAGs"


def upload_sample(stack: Stack) -> str:
    """Upload the invented people's data."""
    stack.upload()
    return ""


def check(stack: Stack) -> str:
    """Compare what is staged with what is visible."""
    return stack.check()


def look_at_page(stack: Stack) -> str:
    """Open the uploads page."""
    page: str = stack.api("GET", "/tidepool/uploads/list")
    require("verified" in page.casefold(), "the uploads page shows no verified upload")
    return ""


def kill_worker(stack: Stack) -> str:
    """Kill everything in the worker's container in mid-upload; the engine starts it again."""
    seconds = 0.0

    def happens() -> None:
        nonlocal seconds
        container = stack.compose("ps", "--quiet", "airflow-worker").strip()
        count = ("inspect", "--format", "{{.RestartCount}}", container)
        # All but the container's first process, which a signal from within does not reach; it ends with them.
        stack.can("airflow-worker", "bash", "-c", "kill -KILL -1")
        wait_until(
            lambda: stack.engine.docker(*count).strip() == "1",
            "the worker is started again",
            REACHABLE_SECONDS,
        )
        seconds = wait_until(stack.reaches_simulator, "the worker reaches the simulator", REACHABLE_SECONDS)

    stack.in_mid_upload("killed-worker", happens)
    stack.until_healthy()
    return f"simulator reached again after {seconds:.0f} s"


def restart_postgres(stack: Stack) -> str:
    """Restart PostgreSQL in mid-upload."""
    stack.in_mid_upload("restarted-postgres", lambda: stack.compose("restart", "postgres"))
    return ""


def restart_redis(stack: Stack) -> str:
    """Restart Redis in mid-upload."""
    stack.in_mid_upload("restarted-redis", lambda: stack.compose("restart", "redis"))
    return ""


def restart_all(stack: Stack) -> str:
    """Restart every service in mid-upload."""

    def happens() -> None:
        stack.compose("restart")

    stack.in_mid_upload("restarted-all", happens)
    return f"healthy again {stack.until_healthy():.0f} s after the run"


def upload_another(stack: Stack, batch: str) -> None:
    """Stage one more batch, and upload it."""
    stack.stage(batch)
    stack.upload()
    stack.require_verified(batch)


def down_and_up(stack: Stack) -> str:
    """Remove the containers and start new ones: everything is still there, the pool's slots too."""
    pool = stack.api("GET", "/api/v2/pools/tidepool")
    changed = {"name": "tidepool", "slots": POOL_SLOTS, "include_deferred": pool["include_deferred"]}
    stack.api("PATCH", "/api/v2/pools/tidepool?update_mask=slots&update_mask=include_deferred", changed)
    before = stack.check()
    stack.compose("down")
    stack.up()
    slots = stack.api("GET", "/api/v2/pools/tidepool")["slots"]
    require(slots == POOL_SLOTS, f"the pool has {slots} slots instead of {POOL_SLOTS}")
    stack.upload()
    require(stack.check() == before, "something else is visible than before")
    upload_another(stack, "after-down")
    return stack.check()


def move_root(stack: Stack) -> str:
    """Move the staging root to another folder: nothing is uploaded again."""
    before = stack.check()
    moved = f"{STAGING}/moved"
    move = "mkdir moved && find . -mindepth 1 -maxdepth 1 ! -name moved -exec mv -t moved {} +"
    stack.within("airflow-worker", "bash", "-ec", f"cd {STAGING} && {move}")
    stack.root = moved
    stack.set("TIDEPOOL_STAGING_ROOT", moved)
    stack.up()
    stack.upload()
    require(stack.check() == before, "something else is visible than before")
    upload_another(stack, "after-move")
    return stack.check()


def save_and_restore(stack: Stack) -> str:
    """Save everything and the ledger, upload, put the older ledger back, rebuild it, and upload again."""
    mode = save(stack)
    upload_another(stack, "after-backup")
    before = stack.check()
    stack.shell(block_of_manual("psql --username postgres --quiet"))
    known = stack.ledger("SELECT count(*) FROM batches WHERE device_id = 'after-backup'")
    require(known == "0", "the older ledger was not put back")
    stack.within("airflow-worker", "tidepool-ingest", "ledger", "rebuild")
    stack.require_verified("after-backup")
    stack.upload()
    require(stack.check() == before, "something else is visible than before")
    return f"backups of mode {mode:o}; {stack.check()}"


def save(stack: Stack) -> int:
    """Save all databases, and the ledger alone, by the manual's commands; return the mode of the backups."""
    stack.shell(block_of_manual("pg_dumpall").partition("git pull")[0])
    stack.shell(block_of_manual("exec -T postgres pg_dump --"))
    modes = {stat.S_IMODE(file.stat().st_mode) for file in stack.folder.glob("tidepool-*.sql")}
    require(modes == {0o600}, "others can read a backup")
    return modes.pop()


def search_logs(stack: Stack) -> str:
    """Search all logs for secrets."""
    logs = stack.logs()
    secrets = {
        name: value
        for name, value in stack.settings.items()
        if name.endswith(("PASSWORD", "SECRET", "_KEY")) and value
    }
    secrets["the client's secret"] = "practice-client-secret"
    require(len(secrets) > 8, "the settings hold fewer secrets than there are")
    found = [name for name, value in secrets.items() if value in logs]
    require(not found, f"a log holds {shlex.join(found)}")
    return f"{len(logs):,} characters, {len(secrets)} secrets"


def practise_on_s3(stack: Stack) -> str:
    """Start again from nothing with staging on S3; upload the sample, and readings that are staged there."""
    stack.practise_on_s3()
    stack.up()
    read_dags(stack)
    stack.upload()
    stack.stage_on_s3("on-s3")
    stack.upload()
    stack.require_verified("on-s3")
    return stack.check_on_s3()


def take_down(stack: Stack) -> str:
    """Remove containers, networks and volumes."""
    stack.down()
    require(not stack.engine.left_of(NAME), "a container, network or volume is left")
    return ""


def require(holds: object, otherwise: str) -> None:
    """Make sure that something holds.

    :param otherwise: what is so if it does not.
    :raises LocalRunError: saying so.
    """
    if not holds:
        raise LocalRunError(
            f"It does not hold: {otherwise}.", remedy="The log says more.", code="does-not-hold"
        )


STEPS = (
    Step("build: one image, none without a tag", build),
    Step("docker/check.sh and airflow-init name what is in the way", check_before),
    Step("up --wait: every service healthy", start),
    Step("DAGs are read", read_dags),
    Step("the sample is uploaded", upload_sample),
    Step("checker", check),
    Step("the uploads page shows it", look_at_page),
    Step("PostgreSQL restarted in mid-upload", restart_postgres),
    Step("Redis restarted in mid-upload", restart_redis),
    Step("worker killed in mid-upload", kill_worker),
    Step("restart in mid-upload", restart_all),
    Step("down and up", down_and_up),
    Step("staging root moved", move_root),
    Step("ledger saved, lost and restored", save_and_restore),
    Step("no secret in a log", search_logs),
    Step("the same from nothing, with staging on S3", practise_on_s3),
    Step("down --volumes leaves nothing", take_down),
)
