# Stands in for PostgreSQL's image where no registry can be reached: Debian's server, set up on a new volume as that image does.
FROM tidepool-stand-in/debian
RUN apt-get update -qq && \
    apt-get install -qq --yes --no-install-recommends postgresql >/dev/null && \
    rm -rf /var/lib/apt/lists/* && \
    ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/ 2>/dev/null; \
    install --directory --owner=postgres --group=postgres --mode=0700 /var/lib/postgresql/data
COPY --chmod=0755 <<'SCRIPT' /entrypoint
#!/usr/bin/env bash
set -euo pipefail
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  initdb --username=postgres --pwfile=<(echo "${POSTGRES_PASSWORD:?is not set}") \
    --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 >/dev/null
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  pg_ctl --silent --wait -o "-c listen_addresses=''" start
  for script in /docker-entrypoint-initdb.d/*.sh; do PGUSER=postgres bash "$script"; done
  pg_ctl --silent --wait --mode=fast stop
fi
exec "$@"
SCRIPT
ENV PGDATA=/var/lib/postgresql/data
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGINT
ENTRYPOINT ["/entrypoint"]
CMD ["postgres", "-c", "listen_addresses=*", "-c", "unix_socket_directories=/tmp,/var/run/postgresql"]
