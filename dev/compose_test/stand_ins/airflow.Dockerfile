# Stands in for Airflow's slim image where no registry can be reached: the same user, folders and entry, without Airflow,
# which the project's own image installs from requirements.txt.
FROM tidepool-stand-in/debian
RUN apt-get update -qq && \
    apt-get install -qq --yes --no-install-recommends curl dumb-init python3-venv >/dev/null && \
    rm -rf /var/lib/apt/lists/*
RUN useradd --uid 50000 --gid 0 --create-home airflow && \
    install --directory --owner=50000 --group=0 --mode=2775 /opt/airflow /opt/airflow/dags /opt/airflow/logs /opt/airflow/plugins
COPY --chmod=0755 <<'SCRIPT' /entrypoint
#!/usr/bin/env bash
case "${1:-}" in
  bash | python) exec "$@" ;;
  airflow) shift ;;
esac
exec airflow "$@"
SCRIPT
COPY pip/ /etc/
ENV AIRFLOW_HOME=/opt/airflow VIRTUAL_ENV=/home/airflow/.venv PATH=/home/airflow/.venv/bin:/usr/local/bin:/usr/bin:/bin
USER 50000:0
WORKDIR /opt/airflow
RUN python3 -m venv "$VIRTUAL_ENV" && pip install --quiet --no-cache-dir --upgrade pip
ENTRYPOINT ["/usr/bin/dumb-init", "--", "/entrypoint"]
