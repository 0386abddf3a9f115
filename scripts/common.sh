# Shared by scripts/demo and scripts/test: find a Python, make the virtual environment, install the package into it.

root=$(cd "$(dirname "$0")/.." && pwd)
venv=${FACTORY_VENV:-$root/.venv}

stop() {
  echo "$(basename "$0"): $1" >&2
  exit 2
}

# Print the first Python on PATH that is 3.11 or newer.
find_python() {
  for name in python3 python3.13 python3.12 python3.11; do
    if command -v "$name" >/dev/null 2>&1 &&
      "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      echo "$name"
      return
    fi
  done
  stop "python3 must be 3.11 or newer, not $(python3 --version 2>&1 || echo missing)"
}

# install EXTRA...: make the environment where it is not there, and install what pyproject.toml asks for where it changed.
# Nothing is done where FACTORY_INSTALLED says that `factory` is on PATH already.
install() {
  extras=$1
  [ -z "${FACTORY_INSTALLED:-}" ] || return 0
  if [ ! -x "$venv/bin/python" ]; then
    python=$(find_python) || exit 2
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
      stop "python's venv module must be installed (Debian: apt install python3-venv)"
    echo "making a virtual environment in $venv"
    "$python" -m venv "$venv" || stop "could not make a virtual environment in $venv"
  fi
  stamp="$venv/.factory-$(echo "$extras" | tr -c 'a-z\n' '-')"
  if [ ! -f "$stamp" ] || [ "$root/pyproject.toml" -nt "$stamp" ]; then
    echo "installing factory and what it needs (a few minutes the first time)"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e "$root$extras" || stop "pip could not install $root$extras"
    touch "$stamp"
  fi
}
