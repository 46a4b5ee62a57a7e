#!/bin/sh
# Serve on 127.0.0.1:8000. Options are passed to bentoml serve (--host 0.0.0.0 --port 9000).
set -eu
cd "$(dirname "$0")"
export BENTOML_HOME="${BENTOML_HOME:-$PWD/home}" BENTOML_DO_NOT_TRACK=true
# The path is absolute, since BentoML 1.4.39 takes a relative one for the name of a Bento.
exec .venv/bin/python -m bentoml serve "$PWD/bento" --host 127.0.0.1 --port 8000 \
  --timeout-keep-alive 75 "$@"
