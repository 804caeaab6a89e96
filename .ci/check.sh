#!/bin/sh
# Style and types of the Python and of the widgets' JavaScript. Runs every check even after one has
# failed, so that one run shows all there is to mend. Usage: .ci/check.sh .venv/bin
set -u
cd "$(dirname "$0")/.." || exit 1
bin=${1:?the folder of the environment\'s programs}
case $bin in /*) ;; *) bin=$PWD/$bin ;; esac
failed=""

check() {
    printf '== %s\n' "$1"
    shift
    "$@" || failed="$failed, $(basename "$1")"
}

check "ruff check" "$bin/ruff" check .
check "ruff format" "$bin/ruff" format --check .
check "mypy" "$bin/mypy"

echo "== tsc (types of the widgets' JavaScript)"
if command -v npm >/dev/null 2>&1; then
    # Its lock file is newer than what is installed, or nothing is: install what the lock names.
    if [ tests/js/package-lock.json -nt tests/js/node_modules/.package-lock.json ]; then
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
