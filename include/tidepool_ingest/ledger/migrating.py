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

if TYPE_CHECKING:
    from alembic.config import Config

HEAD_REVISION = "0010"
"""The newest revision in ``migrations/versions``; a test holds it against Alembic's own finding."""

MIGRATION_LOCK = 0x71DE_9001
"""PostgreSQL advisory lock: one process migrates at a time."""


def migrate(engine: Engine, revision: str = HEAD_REVISION) -> None:
    """Bring the schema to a revision; do nothing when it is there already.

    Safe when many processes start at once: they take turns.

    :param engine: the ledger's engine.
    :param revision: a revision of ``migrations/versions``, or ``base`` for an empty database; an older one
        migrates back.
    """
    if current_revision(engine) == revision:
        return
    from alembic import command
    from alembic.runtime.migration import MigrationContext

    config = alembic_config()
    with _quietly(), engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        config.attributes["connection"] = connection
        here = MigrationContext.configure(connection).get_current_revision()
        if here is not None and _is_older(revision, here, config):
            command.downgrade(config, revision)
        elif revision != "base":
            command.upgrade(config, revision)


def current_revision(engine: Engine) -> str | None:
    """Return the revision the database is at, ``None`` for an empty one."""
    with unavailable_named(), engine.connect().execution_options(**{READING: True}) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return revision


def alembic_config() -> Config:
    """Return Alembic's configuration for the ledger's own migrations."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _is_older(revision: str, than: str, config: Config) -> bool:
    from alembic.script import ScriptDirectory

    earlier = {one.revision for one in ScriptDirectory.from_config(config).iterate_revisions(than, "base")}
    return revision == "base" or revision in earlier - {than}


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
