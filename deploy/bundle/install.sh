#!/bin/sh
# Install the bundle into this directory. Needs Python 3.11 and no network.
set -eu
cd "$(dirname "$0")"
sha256sum --quiet --check SHA256SUMS || { echo "embedding-api: the bundle is damaged; copy it again" >&2; exit 1; }
python=${PYTHON:-python3.11}
command -v "$python" > /dev/null || { echo "embedding-api: $python is not installed; set PYTHON=" >&2; exit 1; }
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
  echo "embedding-api: the bundle's packages are for Python 3.11, and $python is another; set PYTHON=" >&2; exit 1; }
"$python" -m venv --without-pip --clear .venv
pip=$(echo wheels/pip-[0-9]*.whl)/pip  # Python runs a package in a wheel, which is a zip file
.venv/bin/python "$pip" install --quiet --disable-pip-version-check --no-index --find-links wheels \
  --no-deps --require-hashes -r run.txt
echo "Installed. Write the settings into $PWD/.env (SUPABASE_JWT_SECRET=...), then: $PWD/serve.sh"
