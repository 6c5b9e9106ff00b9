#!/usr/bin/env bash
# Installs into .venv, checks style and types, and runs the tests; arguments are passed to pytest.
set -euo pipefail
. "$(dirname "$0")/venv.sh" test
export TF_CPP_MIN_LOG_LEVEL=3
ruff check .
ruff format --check .
mypy
exec python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --durations 15 "$@"
