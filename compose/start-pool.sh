#!/bin/sh
# Makes, once, what the other containers need (a miner's token, the secret of alerts), then serves.
set -eu
umask 077
config=${INFERPOOL_CONFIG:-/etc/inferpool/pool.toml}
secrets=${INFERPOOL_SECRETS:-/secrets}
alerts=${INFERPOOL_ALERTS:-/alerts}

account() { # NAME ROLE: its token goes to a file of that name
  if [ ! -s "$secrets/$1" ]; then
    inferpool account create "$1" --role "$2" --config "$config" > "$secrets/$1.new"
    mv "$secrets/$1.new" "$secrets/$1"
  fi
}

if [ ! -s "$alerts/secret" ]; then
  python3 -c 'import secrets; print(secrets.token_urlsafe(32))' > "$alerts/secret.new"
  chmod 0644 "$alerts/secret.new" # Alertmanager is another user; the volume is the two's alone
  mv "$alerts/secret.new" "$alerts/secret"
fi
account boss operator
account customer customer
if [ ! -e "$secrets/credited" ]; then
  inferpool account credit customer 100000000 --config "$config"
  inferpool account credit reserve 10000000 --config "$config"
  touch "$secrets/credited"
fi
account example miner
exec inferpool serve --config "$config"
