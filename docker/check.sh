#!/usr/bin/env bash
# Checks what a start needs before anything starts, a line for each failure: what only this machine can see, then,
# in a container of the image, what airflow-init checks at every start. The image has to be built already.
# Usage: docker/check.sh [ENV_FILE [OPTION OF DOCKER COMPOSE]...]
set -euo pipefail
cd "$(dirname "$0")/.."

env_file=${1:-.env}
compose=(docker compose --env-file "$env_file" "${@:2}")
failures=0
fail() {
  echo "check: $*" >&2
  failures=$((failures + 1))
}
# names FILE PATTERN: the names of settings that are written in a file behind what the pattern matches.
names() { sed -nE "s/^$2([A-Z][A-Z0-9_]*)=.*/\1/p" "$1"; }
# value NAME DEFAULT: what the file sets it to.
value() {
  local found
  found=$(sed -nE "s/^$1=//p" "$env_file" | tail -n 1 | tr -d "\"'")
  echo "${found:-$2}"
}

if [ ! -r "$env_file" ]; then
  fail "there is no $env_file that can be read: docs/deployment.md, \"Start\", has the command that makes it."
  exit 1
fi
# As Linux and macOS both print the mode: those of group and others.
if [ "$(ls -lL "$env_file" | cut -c 5-10)" != "------" ]; then
  fail "others on this machine can read $env_file, which holds secrets: chmod 600 $env_file"
fi

# A file of an older version lacks what is new, and has what is gone.
for name in $(names .env.example ''); do
  if [ -z "$(value "$name" '')" ]; then
    fail "$name is not set in $env_file, which may be of an older version: add it, as .env.example says."
  fi
done
known=$(names .env.example '#?')
for name in $(names "$env_file" ''); do
  case $name in
    AIRFLOW__* | AIRFLOW_CONN_* | AIRFLOW_VAR_*) ;;
    AIRFLOW_* | LEDGER_* | POSTGRES_* | REDIS_* | TIDEPOOL_* | WORKER_* | *_CPUS | *_MEMORY)
      grep -qxF "$name" <<<"$known" ||
        fail "$name in $env_file is no setting, or not any more: correct its name by .env.example, or remove it."
      ;;
  esac
done

# Ours may listen there: then this is a restart.
port=$(value AIRFLOW_PORT 8080)
address=$(value AIRFLOW_BIND 127.0.0.1)
[ "$address" != 0.0.0.0 ] || address=127.0.0.1
if [[ ! $port =~ ^[1-9][0-9]{0,4}$ ]] || [ "$port" -gt 65535 ]; then
  fail "AIRFLOW_PORT in $env_file is no port: give a number from 1 to 65535."
elif (: <"/dev/tcp/$address/$port") 2>/dev/null &&
  [ -z "$("${compose[@]}" ps --quiet airflow-apiserver 2>/dev/null)" ]; then
  fail "another program listens on port $port already: end it, or set AIRFLOW_PORT in $env_file to another one."
fi

[ "$failures" -eq 0 ] || exit 1
# What is printed meanwhile is shown at once, and kept: where no check has printed it, it says why there was none.
printed=$(mktemp)
trap 'rm -f "$printed"' EXIT
status=0
exec 3>&1
"${compose[@]}" run --rm --no-deps -T --env CONNECTION_CHECK_MAX_COUNT=0 airflow-init \
  python -m tidepool_airflow.preflight 2>&1 >&3 | tee "$printed" >&2 || status=$?
if [ "$status" -ne 0 ]; then
  if ! grep -q 'preflight: ' "$printed"; then
    last=$(tr -d '\r' <"$printed" | grep -v '^[[:space:]]*$' | tail -n 1 || true)
    fail "airflow-init's container ended with $status before it checked anything, and the last line of its message" \
      "is: ${last:-nothing}. Mend what that names: it is the engine, of which docker info and its own log say more," \
      "or the image, which docker compose build makes anew."
  fi
  exit "$status"
fi
echo "check: nothing is in the way"
