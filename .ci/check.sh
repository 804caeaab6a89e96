#!/bin/sh
# Style and types of the Python and of the widgets' JavaScript. Runs every check even after one has
# failed, so that one run shows all there is to mend. Usage: .ci/check.sh .venv/bin
set -u
cd "$(dirname "$0")/.." || exit 1
bin=${1:?the folder of the environment\'s programs}
case $bin in /*) ;; *) bin=$PWD/$bin ;; esac
failed=""

check() {
    printf '== %s\n' "$*"
    "$bin/python" -m "$@" || failed="$failed, $1 $2"
}

check ruff check .
check ruff format --check .
check mypy --strict
check mypy --strict .ci/install.py

echo "== tsc (types of the widgets' JavaScript)"
if command -v npm >/dev/null 2>&1; then
    installed=tests/js/node_modules/.package-lock.json
    if [ ! -e $installed ] || [ tests/js/package-lock.json -nt $installed ]; then
        (cd tests/js && npm ci --silent --no-audit --no-fund) || failed="$failed, npm ci"
    fi
    (cd tests/js && node_modules/.bin/tsc --project .) || failed="$failed, tsc"
else
    echo "npm was not found, so the JavaScript was not checked."
    echo "To install it:  sudo apt-get install npm   (macOS: brew install node)"
    failed="$failed, npm is missing"
fi

if [ -n "$failed" ]; then
    echo "Not clean: ${failed#, }"
    exit 1
fi
echo "All checks passed."
