# The image of every Airflow service in docker-compose.yml: Airflow, the pinned requirements, this project.
#
# The slim image brings Airflow and the system libraries but no providers, so that what runs is what
# requirements.txt pins. Raise the version here and in requirements.in together (tests/deployment compares).
FROM apache/airflow:slim-3.3.2-python3.12 AS airflow

# The project as a wheel; the tools that build it are the pinned ones, hashes checked.
FROM airflow AS wheel
# The seconds since 1970 that files in the wheel are of: `make release` gives those of the commit.
ARG SOURCE_DATE_EPOCH
WORKDIR /tmp/project
COPY --chown=50000:0 pyproject.toml README.md LICENSE requirements-dev.txt ./
COPY --chown=50000:0 include/ include/
COPY --chown=50000:0 plugins/ plugins/
RUN pip wheel --no-cache-dir --no-deps --build-constraint requirements-dev.txt --wheel-dir /tmp/wheel .

FROM airflow
# Volumes mounted here take over owner and mode: only Airflow's user and its group may look in.
USER 0:0
RUN install --directory --owner=50000 --group=0 --mode=2770 /opt/tidepool/staging /opt/tidepool/practice
USER 50000:0

COPY --chown=50000:0 requirements.txt /opt/tidepool/requirements.txt
RUN pip install --no-cache-dir --require-hashes --requirement /opt/tidepool/requirements.txt

# Installed as a package, its entry points tell Airflow of the connection type `tidepool`, and of the page, the
# links and the middleware. So plugins/ of the image stays empty.
COPY --from=wheel --chown=50000:0 /tmp/wheel/ /opt/tidepool/wheel/
RUN pip install --no-cache-dir --no-deps --no-index /opt/tidepool/wheel/*.whl && pip check

COPY --chown=50000:0 dags/ /opt/airflow/dags/
