# Stands in for Redis's image where no registry can be reached: Debian's server.
FROM tidepool-stand-in/debian
RUN apt-get update -qq && \
    apt-get install -qq --yes --no-install-recommends redis-server >/dev/null && \
    rm -rf /var/lib/apt/lists/* && \
    install --directory --owner=redis --group=redis --mode=0755 /data
VOLUME /data
WORKDIR /data
