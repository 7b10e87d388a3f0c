"""What a deployment sets: environment variables, the staging root, and the ledger.

Most of it is read when a DAG file is parsed, so this module imports little of the library.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import lru_cache
from keyword import iskeyword
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast
from urllib.parse import unquote

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tidepool_ingest.errors import IngestError
from tidepool_ingest.options import (
    BATCHES_A_PACK,
    BATCHES_ALONE,
    MAX_KEEP_DAYS,
    QUARANTINE_DAYS,
    WORK_DAYS,
)

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from upath import UPath

    from tidepool_ingest.ledger import Ledger

log = logging.getLogger(__name__)

DEFAULT_LEDGER_CONN_ID = "tidepool_ledger"
LEDGER_CONN_VARIABLE = "AIRFLOW_CONN_TIDEPOOL_LEDGER"

# ---------------------------------------------------------------- the settings, and how they are checked

PREFIX = "TIDEPOOL_"
"""How the environment variables begin; the rest of a name is that of a field in upper case."""

OF_COMPOSE = ("POOL_SLOTS", "STAGING_SOURCE")
"""Variables that docker-compose.yml reads and no program does."""

LONGEST_RETRY_DELAY = timedelta(minutes=30)
"""Where the doubling of the pause between two tries ends."""

CONN_ID = re.compile(r"[\w#!()\-.:/\\]{1,250}")
"""What an id of a connection may look like. Source: ``airflow.models.connection``."""

ADDRESSEE = re.compile(r"[^\s@,]+@[^\s@,]+|[#@]?[\w.-]+")
"""An e-mail address, or a channel of Slack."""

DEFAULT_CONN_ID = "tidepool_default"
"""The connection to Tidepool of whatever is given no other one."""

OUR_TAG = "tidepool"
"""Every DAG of this project has it, and this deployment's own besides."""

LONGEST_TAG = 100
"""Characters of a tag. Source: ``airflow.models.dag.TAG_MAX_LEN``."""

LEDGER_SCHEMES = ("sqlite", "postgresql", "postgres")
"""How a ledger's address begins; importing the module that opens it would cost each parsing of a DAG file."""


def _items(text: Any) -> Any:
    """Return what a variable lists, separated by commas."""
    return tuple(item.strip() for item in text.split(",") if item.strip()) if isinstance(text, str) else text


def _conn_ids(ids: tuple[str, ...]) -> tuple[str, ...]:
    if not all(CONN_ID.fullmatch(each) for each in ids):
        raise ValueError("not an id of a connection")
    return ids


def _conn_id(conn_id: str) -> str:
    # The address of a webhook is a secret, and what an id is taken for is written into logs.
    if "://" in conn_id:
        raise ValueError("an address")
    return _conn_ids((conn_id,))[0]


def _tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    if not all(each.isprintable() and len(each) <= LONGEST_TAG for each in tags):
        raise ValueError("not a tag")
    return tags


def _web_address(address: str) -> str:
    if not re.fullmatch(r"https?://[^\s()<>]+", address):
        raise ValueError("not an address")
    return address.rstrip("/")


def _addressees(names: tuple[str, ...]) -> tuple[str, ...]:
    if not all(map(ADDRESSEE.fullmatch, names)):
        raise ValueError("not an address")
    return names


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it holds characters that cannot be seen")
    return text


def _function(path: str) -> str:
    parts = path.split(".")
    if len(parts) < 2 or not all(part.isidentifier() and not iskeyword(part) for part in parts):
        raise ValueError("not the path of a function")
    return path


def _ledger(address: str) -> str:
    if not _printable(address).startswith(
        tuple(f"{scheme}{end}" for scheme in LEDGER_SCHEMES for end in ":+")
    ):
        raise ValueError("another database")
    return address


def _fernet_keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    # Imported only where there are keys: that is where tasks run, which need it anyway.
    from tidepool_ingest.staging.encryption import is_key

    # A list of nothing is a mistake, too: the work areas would silently not be encrypted.
    if not keys or not all(map(is_key, keys)):
        raise ValueError("not a Fernet key")
    return keys


Place = Annotated[str, AfterValidator(_printable)]
Function = Annotated[str, AfterValidator(_function)]
A_FUNCTION = "the dotted path of a function, package.module.function"


class Settings(BaseModel):
    """Every setting of a deployment, each read from the environment variable of its name.

    A field declares its variable once: default, bounds, description, and as its title what it takes, unless
    the bounds of a number say that. The check, its messages and the documentation follow from it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    staging_root: Place | None = Field(
        default=None,
        repr=False,
        title="a folder or an fsspec URL",
        description="The day folders lie there; without it, in `staging` in `AIRFLOW_HOME`.",
    )
    ledger: Annotated[str, AfterValidator(_ledger)] | None = Field(
        default=None,
        repr=False,
        title="an address such as `sqlite:////folder/ledger.db` or `postgresql://user:password@host/database`",
        description="The ledger's database, for commands; DAGs take the connection `tidepool_ledger`.",
    )
    allowed_connections: Annotated[tuple[str, ...], BeforeValidator(_items), AfterValidator(_conn_ids)] = (
        Field(
            default=(),
            title="ids of Airflow connections, separated by commas",
            description="Other connections to Tidepool that a manifest may name.",
        )
    )
    retries: int = Field(default=3, ge=0, le=100, description="How often a task that failed is retried.")
    retry_seconds: float = Field(
        default=120,
        ge=0,
        le=LONGEST_RETRY_DELAY.total_seconds(),
        allow_inf_nan=False,
        description="Pause before the first retry, in seconds; it doubles each time, up to half an hour.",
    )
    parallel_chunks: int = Field(
        default=4,
        ge=1,
        le=32,
        description="Chunks of one data set sent at the same time. An upload task takes as many slots.",
    )
    pool: Annotated[str, Field(max_length=256), AfterValidator(_printable)] = Field(
        default="default_pool",
        title="the name of an Airflow pool",
        description="Pool of the upload tasks. Airflow never starts a task whose pool does not exist.",
    )
    batches_alone: int = Field(
        default=BATCHES_ALONE,
        ge=0,
        le=1_000,
        description="With up to this many batches in a run, each has tasks of its own.",
    )
    batches_a_pack: int = Field(
        default=BATCHES_A_PACK,
        ge=1,
        le=20_000,
        description="Where there are more, up to about this many share a task.",
    )
    owner: Annotated[str, Field(max_length=200), AfterValidator(_printable)] = Field(
        default="airflow", title="a name", description="Owner of the DAGs, as Airflow shows and filters it."
    )
    tags: Annotated[tuple[str, ...], BeforeValidator(_items), AfterValidator(_tags)] = Field(
        default=(),
        title="tags, separated by commas",
        description="Tags of every DAG besides `tidepool`.",
    )
    docs_url: Annotated[str, AfterValidator(_web_address)] | None = Field(
        default=None,
        title="the address of a folder, `https://…`",
        description="This project's `docs/`, as your readers find it: the DAGs' own docs link to it.",
    )
    notify_connection: Annotated[str, AfterValidator(_conn_id)] | None = Field(
        default=None,
        title="the id of an Airflow connection of type `slackwebhook`, `slack`, `smtp` or `apprise`",
        description="A notice of each failed run and a daily digest go there.",
    )
    notify_to: Annotated[tuple[str, ...], BeforeValidator(_items), AfterValidator(_addressees)] = Field(
        default=(),
        repr=False,
        title="e-mail addresses, or channels, separated by commas",
        description="Who gets them by `smtp`, or where they are posted by `slack`.",
    )
    notify_of: Literal["both", "failures", "digest"] = Field(
        default="both",
        title="`both`, `failures` or `digest`",
        description="What is sent to `TIDEPOOL_NOTIFY_CONNECTION`.",
    )
    on_failure: Function | None = Field(
        default=None, title=A_FUNCTION, description="It is called for a run that failed."
    )
    on_deadline: Function | None = Field(
        default=None, title=A_FUNCTION, description="It is called for a run that is not done in time."
    )
    deadline_minutes: float | None = Field(
        default=None,
        gt=0,
        le=525_600,
        allow_inf_nan=False,
        description="Minutes from a run's queueing to its deadline; goes with `TIDEPOOL_ON_DEADLINE`.",
    )
    answer_hours: float = Field(
        default=24,
        gt=0,
        le=8_760,
        allow_inf_nan=False,
        description="Hours that a batch waits for a person's decision.",
    )
    watch_seconds: float = Field(
        default=60,
        ge=1,
        le=86_400,
        allow_inf_nan=False,
        description="Seconds between two checks for new manifests.",
    )
    work_keys: Annotated[tuple[str, ...], BeforeValidator(_items), AfterValidator(_fernet_keys)] = Field(
        default=(),
        repr=False,
        title="Fernet keys (32 bytes in URL-safe base64), separated by commas, the newest first",
        description="They encrypt the work areas.",
    )
    keep_work_days: int = Field(
        default=WORK_DAYS,
        ge=0,
        le=MAX_KEEP_DAYS,
        description="Days that accepted records stay after their batch is done; 0 for ever.",
    )
    keep_quarantine_days: int = Field(
        default=QUARANTINE_DAYS,
        ge=0,
        le=MAX_KEEP_DAYS,
        description="Days that rejected records stay, never fewer than the accepted ones; 0 for ever.",
    )


TOGETHER = (("on_deadline", "deadline_minutes"),)
"""Settings that mean nothing without each other."""

CAUSES = {
    "greater_than": "is too small",
    "greater_than_equal": "is too small",
    "less_than": "is too large",
    "less_than_equal": "is too large",
    "int_parsing_size": "is too large",
    "int_parsing": "is no whole number",
    "int_from_float": "is no whole number",
    "float_parsing": "is no number",
    "finite_number": "is no number",
}
"""What is wrong, by pydantic's type of an error; whatever else it is, the value cannot be used."""


class SettingsError(IngestError):
    """Environment variables of this deployment cannot be used. Their values are left out: some are secret.

    :param mistakes: a sentence for each, which names the variable and what it takes.
    """

    code = "settings"
    sentence = "a setting of this deployment cannot be used"
    remedy = (
        "Correct the environment variables that the message names, for all of Airflow's components, and "
        "restart them."
    )

    def __init__(self, mistakes: Mapping[str, str]) -> None:
        number = len(mistakes)
        what = "A setting" if number == 1 else f"{number} settings"
        lines = "\n".join(f"- {mistake}" for mistake in mistakes.values())
        super().__init__(f"{what} of this deployment cannot be used:\n{lines}")
        self.args = (f"{self.what}\n{self.remedy}",)
        self.mistakes = dict(mistakes)


def deployment() -> Settings:
    """Return the settings of this deployment, as its environment has them now.

    :raises SettingsError: naming every variable that cannot be used, and what it takes.
    """
    return _checked(tuple(sorted(item for item in os.environ.items() if item[0].startswith(PREFIX))))


@lru_cache(maxsize=4)
def _checked(environment: tuple[tuple[str, str], ...]) -> Settings:
    # Blank is not set: a compose file passes on every variable, and most of them are empty.
    given = {name.removeprefix(PREFIX): text.strip() for name, text in environment if text.strip()}
    fields = {name.upper(): name for name in Settings.model_fields}
    _warn_of_misspelled(given.keys() - fields.keys() - set(OF_COMPOSE), fields)
    values = {fields[name]: text for name, text in given.items() if name in fields}
    try:
        settings = Settings(**cast("Any", values))
        wrong = {}
    except ValidationError as error:
        # Raised below, so that no traceback holds what pydantic says: it quotes values.
        wrong = {str(problem["loc"][0]): problem["type"] for problem in error.errors(include_input=False)}
    mistakes = dict(_mistakes(values, wrong))
    if mistakes:
        raise SettingsError(mistakes)
    return settings


def _warn_of_misspelled(unknown: Iterable[str], names: Iterable[str]) -> None:
    """Log which variables are probably meant to be settings; others that begin alike may be a team's own."""
    for name in sorted(unknown):
        from difflib import get_close_matches

        if near := get_close_matches(name, names, n=1, cutoff=0.7):
            log.warning("%s%s is no setting. Is %s%s meant?", PREFIX, name, PREFIX, near[0])


def _mistakes(values: Mapping[str, str], wrong: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each variable that is wrong, and what is wrong with it.

    :param values: what is set, by field.
    :param wrong: what pydantic has found, by field.
    """
    for name, field in Settings.model_fields.items():
        variable = variable_of(name)
        if name in wrong:
            cause = CAUSES.get(wrong[name], "cannot be used")
            otherwise = "leave it out" if field.default in (None, ()) else f"leave it out for {field.default}"
            yield variable, f"{variable} {cause}: give {taken_by(field)}, or {otherwise}."
        for pair in TOGETHER:
            other = next((each for each in pair if each != name), name)
            if name in pair and name not in values and other in values:
                yield variable, f"{variable} is not set, and {variable_of(other)} is: give both, or neither."


def variable_of(name: str) -> str:
    """Return the environment variable of a field."""
    return f"{PREFIX}{name.upper()}"


def taken_by(field: FieldInfo) -> str:
    """Return what the variable of a field takes, for messages and the documentation."""
    if field.title:
        return field.title
    kind = "a whole number" if field.annotation is int else "a number"
    bounds = {
        name: getattr(each, name)
        for each in field.metadata
        for name in ("ge", "gt", "le")
        if hasattr(each, name)
    }
    if "gt" in bounds:
        return f"{kind} above {bounds['gt']:g}, up to {bounds['le']:g}"
    return f"{kind} from {bounds['ge']:g} to {bounds['le']:g}"


# ---------------------------------------------------------------- arguments of the tasks


def default_args() -> dict[str, Any]:
    """Return the arguments that the tasks of every DAG share."""
    settings = deployment()
    return {
        "owner": settings.owner,
        "retries": settings.retries,
        "retry_delay": timedelta(seconds=settings.retry_seconds),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": LONGEST_RETRY_DELAY,
        "allowed_conn_ids": list(settings.allowed_connections),
    }


def tags() -> list[str]:
    """Return the tags of every DAG."""
    return [OUR_TAG, *(tag for tag in deployment().tags if tag != OUR_TAG)]


def plan_args() -> dict[str, int]:
    """Return how the plan of every upload DAG divides batches among tasks."""
    settings = deployment()
    return {"batches_alone": settings.batches_alone, "batches_a_pack": settings.batches_a_pack}


def upload_args() -> dict[str, Any]:
    """Return the further arguments of every upload task: how many requests it sends at once, and its pool.

    Airflow never starts a task whose pool does not exist, so none but Airflow's own is assumed.
    """
    settings = deployment()
    return {
        "parallel_chunks": settings.parallel_chunks,
        "pool": settings.pool,
        "pool_slots": settings.parallel_chunks,
    }


def answer_within() -> timedelta:
    """Return how long a task waits for a person's decision."""
    return timedelta(hours=deployment().answer_hours)


# ---------------------------------------------------------------- the staging root


def staging_root(address: str | None = None) -> UPath:
    """Return the folder that holds the day folders.

    :param address: a path, or an fsspec URL, optionally with an Airflow connection in it, as in
        ``s3://my_aws_connection@bucket/tidepool``. If not given: the environment variable
        ``TIDEPOOL_STAGING_ROOT``, or else ``staging`` in Airflow's own folder.
    :raises BatchError: ``staging-root-address``.
    """
    from airflow.sdk import ObjectStoragePath
    from upath import UPath

    from tidepool_ingest.staging.errors import BatchError
    from tidepool_ingest.staging.storage import names_storage
    from tidepool_ingest.texts import problem_of

    address = address or deployment().staging_root or str(_airflow_home() / "staging")
    with suppress(RuntimeError, ValueError):  # a home of nobody, a scheme that Airflow does not know
        if problem_of(address):
            raise ValueError
        if "://" not in address:
            return UPath(Path(address).expanduser().absolute())
        if names_storage(address):
            # It behaves like a UPath in every way, but its class is not derived from it.
            return cast("UPath", ObjectStoragePath(address))
    raise BatchError("staging-root-address")


def root_of_batch(folder: str, otherwise: str | None = None) -> UPath:
    """Return the staging root that a batch was prepared in: its run may have been given another one.

    :param folder: where the batch was staged, as the ledger keeps it.
    :param otherwise: the root to take if this machine has no such folder, because storage is mounted
        elsewhere here; the deployment's own if not given.
    """
    root = folder.rsplit("/", 3)[0]
    return staging_root(root if "://" in root or Path(root).is_dir() else otherwise)


# ---------------------------------------------------------------- the ledger


def open_ledger(conn_id: str = DEFAULT_LEDGER_CONN_ID) -> Ledger:
    """Return the ledger that a connection names, its tables migrated to this version.

    Without a connection ``tidepool_ledger`` the ledger is a SQLite file in Airflow's own folder, which is
    enough for one machine.

    :param conn_id: an Airflow connection to a PostgreSQL or SQLite database of the ledger's own.
    """
    from tidepool_ingest.ledger import Ledger

    ledger = Ledger(ledger_address(conn_id))
    ledger.migrate()
    return ledger


def ledger_address(conn_id: str = DEFAULT_LEDGER_CONN_ID) -> str:
    """Return the address of the ledger's database; see :func:`open_ledger`.

    :raises LedgerConfigurationError: if the environment has the connection, and Airflow cannot read it.
    """
    try:
        address = BaseHook.get_connection(conn_id).get_uri()
    except AirflowNotFoundException:
        if conn_id != DEFAULT_LEDGER_CONN_ID:
            raise
        if os.environ.get(LEDGER_CONN_VARIABLE, "").strip():
            # Airflow passes over it, and a second ledger, an empty one, would take its place.
            raise _unreadable_ledger() from None
        address = f"sqlite:///{_airflow_home() / 'tidepool_ledger.db'}"
    return _as_sqlalchemy(address)


def _unreadable_ledger() -> IngestError:
    from tidepool_ingest.ledger.database import LedgerConfigurationError

    return LedgerConfigurationError(
        f"Airflow cannot read the ledger's connection in {LEDGER_CONN_VARIABLE}.",
        "Write it as a URI, or as JSON with the fields of a connection.",
    )


def _as_sqlalchemy(uri: str) -> str:
    """Turn a connection's URI into a database URL: Airflow writes SQLite paths with slashes of its own."""
    if not uri.startswith("sqlite:"):
        return uri
    path = unquote(uri.removeprefix("sqlite:")).lstrip("/")
    return f"sqlite:////{path}"


def _airflow_home() -> Path:
    return Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
