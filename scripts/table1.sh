#!/usr/bin/env bash
# Installs into .venv and reproduces Table 1 in the quick setting; arguments are passed on.
set -euo pipefail
# The empty argument: a sourced file would take the arguments of this one for its own.
. "$(dirname "$0")/venv.sh" ""
exec python scripts/reproduce_table1.py --quick "$@"
