#!/bin/sh
# Waits for the token that the pool makes, then works.
set -eu
secrets=${INFERPOOL_SECRETS:-/secrets}
until [ -s "$secrets/example" ]; do sleep 1; done
exec inferpool worker \
  --pool "${INFERPOOL_POOL:-stratum+tcp://pool:3333}" \
  --user example.rig1 --token-file "$secrets/example" \
  --cache "${INFERPOOL_CACHE:-/data/cache}" \
  --metrics-host 0.0.0.0 --metrics-port "${INFERPOOL_METRICS_PORT:-9110}"
