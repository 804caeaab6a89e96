#!/bin/sh
# Prints the Python to build the environment with: the newest of 3.13, 3.12, 3.11, or what PYTHON
# names. Where there is none that will do, says what to install and ends with status 1.
#
# A name on the PATH proves nothing (a version manager leaves names of versions that are not active,
# Debian leaves out the parts that make environments), so each candidate is tried.
set -u

say() { printf '%s\n' "$*" >&2; }

# Prints nothing and succeeds if $1 will do; otherwise prints why not.
fault_of() {
    "$1" -c '
import sys
if sys.version_info < (3, 11):
    sys.exit(f"it is version {sys.version_info[0]}.{sys.version_info[1]}")
missing = []
for name in ("venv", "ensurepip", "ssl", "sqlite3", "ctypes", "zlib"):
    try:
        __import__(name)
    except ImportError:
        missing.append(name)
if missing:
    sys.exit("it lacks the standard modules " + ", ".join(missing))
' 2>&1
}

if [ -n "${PYTHON:-}" ]; then
    set -- "$PYTHON"
else
    set -- python3.13 python3.12 python3.11 python3
fi
complaints=""
for candidate in "$@"; do
    command -v "$candidate" >/dev/null 2>&1 || continue
    if fault=$(fault_of "$candidate") && [ -z "$fault" ]; then
        # The program itself and not a version manager's stand-in, whose answer may change.
        "$candidate" -c 'import sys; print(sys.executable)'
        exit 0
    fi
    complaints="$complaints
  $(command -v "$candidate"): $(printf '%s' "$fault" | head -n 1)"
done

if [ -n "${PYTHON:-}" ]; then
    say "PYTHON is set to \"$PYTHON\", which cannot be used:"
else
    say "Python 3.11 or newer, complete with its venv module, was not found on this machine."
fi
if [ -n "$complaints" ]; then
    say "Tried:$complaints"
elif [ -n "${PYTHON:-}" ]; then
    say "  there is no such program."
fi
say ""
if command -v apt-get >/dev/null 2>&1; then
    say "To install it:  sudo apt-get install python3 python3-venv"
    say "If that gives a version below 3.11, this system is too old to have one; conda has it,"
    say "and the README says how."
elif command -v dnf >/dev/null 2>&1; then
    say "To install it:  sudo dnf install python3.12"
elif command -v pacman >/dev/null 2>&1; then
    say "To install it:  sudo pacman -S python"
elif command -v zypper >/dev/null 2>&1; then
    say "To install it:  sudo zypper install python312"
elif command -v brew >/dev/null 2>&1; then
    say "To install it:  brew install python@3.13"
else
    say "To install it, see https://www.python.org/downloads/"
fi
say "Then run the same command again. To use a certain one:  make PYTHON=/path/to/python3.12 ..."
exit 1
