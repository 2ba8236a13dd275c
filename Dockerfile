# One image for the pool and for a rig without a GPU; a rig with one is built with EXTRAS=cuda12.
FROM python:3.11-slim-bookworm
ARG EXTRAS=numba
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY pool pool
COPY stratum stratum
COPY shares shares
COPY gpu_worker gpu_worker
COPY compose/start-pool.sh compose/start-rig.sh /usr/local/bin/
RUN pip install --no-cache-dir ".[${EXTRAS}]" \
  && useradd --system --uid 10001 --home-dir /data inferpool \
  && mkdir -p /data /secrets /alerts \
  && chown inferpool /data /secrets /alerts
USER inferpool
WORKDIR /data
ENTRYPOINT []
CMD ["start-pool.sh"]
