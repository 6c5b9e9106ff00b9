#!/usr/bin/env bash
# Installs into .venv and builds the documentation site into build/site; a warning is an error.
# Arguments are passed to mkdocs: `--site-dir elsewhere`. The site needs no network, but for the
# search a server: python -m http.server --directory build/site
set -euo pipefail
. "$(dirname "$0")/venv.sh" docs
# Material says at every start that it has a successor.
export NO_MKDOCS_2_WARNING=1
exec python -m mkdocs build --strict "$@"
