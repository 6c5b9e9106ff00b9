#!/usr/bin/env bash
# Installs into .venv, checks style and types, and runs the tests, those of every backend on each that
# is installed. Arguments are passed to pytest, which then runs once.
set -euo pipefail
. "$(dirname "$0")/venv.sh" test
export TF_CPP_MIN_LOG_LEVEL=3
ruff check .
ruff format --check .
mypy
run=(python -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal --durations 15)
[ $# -gt 0 ] && exec "${run[@]}" "$@"
KERAS_BACKEND=tensorflow "${run[@]}"
for backend in jax torch; do
    if python -c "import $backend" 2> /dev/null; then
        echo "=== Under KERAS_BACKEND=$backend"
        # torch runs step by step: the goldens of images alone would take it four minutes.
        goldens=(); [ $backend = jax ] && goldens=(tests/test_golden.py)
        KERAS_BACKEND=$backend "${run[@]}" tests/backends "${goldens[@]}"
    else
        echo "=== Skipped under KERAS_BACKEND=$backend, which is not installed: pip install $backend"
    fi
done
