"""How the ledger's schema is brought up to date.

Alembic is imported only when there is something to migrate: each task looks whether there is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine, inspect, text

from tidepool_ingest.ledger.database import READING, unavailable_named
from tidepool_ingest.ledger.errors import LedgerConfigurationError

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"

HEAD_REVISION = max(path.name for path in MIGRATIONS.glob("versions/[0-9]*.py")).partition("_")[0]
"""The newest revision, as the files' names give it: Alembic is not imported to tell."""

MIGRATION_LOCK = 0x71DE_9001
"""PostgreSQL advisory lock: one process migrates at a time."""


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest revision; do nothing when it is there already.

    Safe when many processes start at once: they take turns.

    :param engine: the ledger's engine.
    :raises LedgerConfigurationError: if the database is at a revision that this version does not know; it is
        left as it is.
    """
    if current_revision(engine) == HEAD_REVISION:
        return
    from alembic import command
    from alembic.runtime.migration import MigrationContext

    config = alembic_config()
    with _quietly(), engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        config.attributes["connection"] = connection
        here = MigrationContext.configure(connection).get_current_revision()
        if here is not None and here not in revisions():
            raise LedgerConfigurationError(
                "The ledger's tables are those of another version of this project, or of another program "
                f"(revision {here}).",
                "Use the version that made them, or name an empty database in the connection "
                "`tidepool_ledger`. Nothing in this one was changed.",
            )
        command.upgrade(config, "head")


def current_revision(engine: Engine) -> str | None:
    """Return the revision the database is at, ``None`` for an empty one."""
    with unavailable_named(), engine.connect().execution_options(**{READING: True}) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return revision


def revisions() -> list[str]:
    """Return the revisions that this version can start from, oldest first."""
    from alembic.script import ScriptDirectory

    newest_first = ScriptDirectory.from_config(alembic_config()).walk_revisions()
    return [script.revision for script in newest_first][::-1]


def alembic_config() -> Config:
    """Return Alembic's configuration for the ledger's own migrations."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep Alembic's own account of each step out of the tasks' logs."""
    logger = logging.getLogger("alembic.runtime.migration")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
