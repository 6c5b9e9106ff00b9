# Sourced: makes and enters the checkout's virtual environment, with the extras named in $1.
# The installation is repeated only when setup.cfg, pyproject.toml or the extras change.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ! .venv/bin/python -m pip --version > /dev/null 2>&1; then
    python=${PYTHON:-python3}
    if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'; then
        echo "tfnode needs Python 3.11 to 3.13. Received: $("$python" --version) as $python." \
            "Set PYTHON to one of these." >&2
        exit 1
    fi
    "$python" -m venv --clear .venv
fi
. .venv/bin/activate
stamp=.venv/installed-${1:-plain}
if ! cat setup.cfg pyproject.toml | cmp -s - "$stamp"; then
    echo "Installing tfnode into .venv (a few minutes the first time) ..."
    python -m pip install --quiet --disable-pip-version-check --editable ".${1:+[$1]}"
    cat setup.cfg pyproject.toml > "$stamp"
fi
