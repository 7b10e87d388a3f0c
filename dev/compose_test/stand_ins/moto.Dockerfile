# Stands in for moto's image where no registry can be reached: its server, from Python's packages.
FROM tidepool-stand-in/debian
ARG VERSION
RUN apt-get update -qq && \
    apt-get install -qq --yes --no-install-recommends python3-venv >/dev/null && \
    rm -rf /var/lib/apt/lists/*
COPY pip/ /etc/
ENV PATH=/moto/bin:/usr/local/bin:/usr/bin:/bin
RUN python3 -m venv /moto && pip install --quiet --no-cache-dir "moto[server]==$VERSION"
EXPOSE 5000
ENTRYPOINT ["moto_server", "-H", "0.0.0.0"]
