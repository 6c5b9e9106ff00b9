#!/usr/bin/env bash
# Installs into .venv and reproduces Table 1 in the quick setting; arguments are passed on.
set -euo pipefail
# The empty argument: a sourced file would take the arguments of this one for its own.
. "$(dirname "$0")/venv.sh" ""
# TensorFlow's greetings, from every process, would tear the progress bar.
exec python scripts/reproduce_table1.py --quick "$@" \
    2> >(trap '' INT; exec grep --line-buffered -vE '^(WARNING: All log messages|[IWE]0000 |To enable the following instructions)' >&2)
