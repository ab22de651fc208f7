# Sourced by the scripts beside it: `use_venv EXTRA` makes .venv in the project's root and installs minirq[EXTRA]
# there. PYTHON=... names the interpreter; without it the first one that is new enough is taken.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

die() { printf '%s\n' "$@" >&2; exit 1; }

# choose_python: sets `python`, or says what was found and what to install
choose_python() {
    local candidates candidate version found='' no_venv=''
    candidates=(python3 python3.12 python3.13 python3.14 python3.11
        "$HOME"/.pyenv/versions/*/bin/python3 "$HOME"/.local/share/uv/python/*/bin/python3)
    [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        candidate=$(command -v "$candidate") || continue
        # a pyenv shim for a version that is not active fails
        version=$("$candidate" -c 'import platform; print(platform.python_version())' 2>/dev/null) || continue
        found+="  $candidate: Python $version"$'\n'
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || continue
        if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then python=$candidate; return; fi
        no_venv=${version%.*}
    done
    [ -n "$found" ] || found="  none${PYTHON:+ (PYTHON=$PYTHON does not run)}"$'\n'
    printf 'minirq needs Python 3.11 or newer with venv. Interpreters found:\n%s' "$found" >&2
    [ -z "$no_venv" ] || die "This Python cannot make virtual environments. On Debian and Ubuntu:" \
        "  apt install python$no_venv-venv"
    die "Install Python 3.12 (apt install python3 python3-venv, brew install python@3.12, or pyenv install 3.12)."
}

# use_venv EXTRA: EXTRA is embedded, test (which has embedded) or dev (which has test). Puts .venv/bin first in PATH
use_venv() {
    local extra=$1 venv=$root/.venv have contained
    have=$("$venv/bin/python" -c 'import sys; print(sys.base_prefix)' 2>/dev/null) || have=''
    if [ -n "${PYTHON:-}" ] && [ "$have" != "$("$PYTHON" -c 'import sys; print(sys.base_prefix)')" ]; then
        have=''
    fi
    if [ -z "$have" ]; then
        choose_python
        echo "Making .venv with $python ..." >&2
        "$python" -m venv --clear "$venv"
    fi
    # The stamp is a copy of pyproject.toml as it was when this extra was installed
    if ! cmp -s "$root/pyproject.toml" "$venv/.installed-$extra"; then
        echo "Installing minirq[$extra] into .venv ..." >&2
        PIP_DISABLE_PIP_VERSION_CHECK=1 "$venv/bin/python" -m pip install -q -e "$root[$extra]"
        case $extra in
            dev) contained='dev test embedded' ;;
            test) contained='test embedded' ;;
            *) contained=$extra ;;
        esac
        for extra in $contained; do cp "$root/pyproject.toml" "$venv/.installed-$extra"; done
    fi
    PATH=$venv/bin:$PATH
}
