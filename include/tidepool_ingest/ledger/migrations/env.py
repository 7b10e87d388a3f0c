"""Alembic's entry: migrate over the connection that the ledger hands in."""

from __future__ import annotations

from alembic import context

from tidepool_ingest.ledger.schema import metadata

connection = context.config.attributes["connection"]
# SQLite alters a table by copying it.
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
