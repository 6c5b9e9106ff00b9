# Sourced: makes and enters the checkout's virtual environment, with the extras named in $1.
# The installation is repeated only when setup.cfg, pyproject.toml or the extras change.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ ! -x .venv/bin/python ]; then
    "${PYTHON:-python3}" -m venv .venv
fi
. .venv/bin/activate
stamp=.venv/installed-${1:-plain}
if ! cat setup.cfg pyproject.toml | cmp -s - "$stamp"; then
    echo "Installing tfnode into .venv (a few minutes the first time) ..."
    python -m pip install --quiet --disable-pip-version-check --editable ".${1:+[$1]}"
    cat setup.cfg pyproject.toml > "$stamp"
fi
