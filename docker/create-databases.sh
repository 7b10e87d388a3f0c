#!/usr/bin/env bash
# Run once by the PostgreSQL image, when its volume is new: creates Airflow's database and the ledger's, each with
# a role of its own that cannot connect to the other one.
set -euo pipefail

: "${AIRFLOW_DB_PASSWORD:?is not set}" "${LEDGER_DB_PASSWORD:?is not set}"

# psql reads the passwords from its environment and quotes them itself; no command line shows them.
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --dbname "${POSTGRES_DB:-postgres}" <<'SQL'
\getenv airflow_password AIRFLOW_DB_PASSWORD
\getenv ledger_password LEDGER_DB_PASSWORD

CREATE ROLE airflow LOGIN PASSWORD :'airflow_password';
CREATE DATABASE airflow OWNER airflow;
REVOKE ALL ON DATABASE airflow FROM PUBLIC;

CREATE ROLE tidepool_ledger LOGIN PASSWORD :'ledger_password';
CREATE DATABASE tidepool_ledger OWNER tidepool_ledger;
REVOKE ALL ON DATABASE tidepool_ledger FROM PUBLIC;
SQL
