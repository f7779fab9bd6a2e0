#!/usr/bin/env bash
# Installs the Debian packages that `make run`, `make test` or `make bench` needs, as root or through sudo, and nothing when
# all are there. Services that come with them are neither started nor enabled. usage: scripts/set-up.sh build|run|test|bench
set -euo pipefail

purpose=${1:?usage: scripts/set-up.sh build|run|test|bench}
missing=()

# need PACKAGE PROBE...: the package is wanted when the probe fails.
need() {
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

has() { command -v "$1"; }
php_has() { php -r "exit(extension_loaded('$1') ? 0 : 1);"; }

# A linker, and a compiler for the little C in the cryptography library.
need gcc has gcc
need libc6-dev test -e /usr/include/stdlib.h
need ca-certificates test -e /etc/ssl/certs/ca-certificates.crt
case $purpose in
build) ;;
run)
    need redis-server has redis-server
    need python3 has python3
    ;;
test)
    need redis-server has redis-server
    need redis-tools has redis-cli
    need openssl has openssl
    need curl has curl
    need php-cli has php
    need php-redis php_has redis
    need php-laravel-framework test -e /usr/share/php/Illuminate/Queue/autoload.php
    need systemd has systemd-analyze
    need procps has ps
    need python3 has python3
    need python3-venv python3 -c 'import ensurepip'
    need supervisor has supervisorctl
    need nodejs has node
    need npm has npm
    ;;
bench)
    need redis-server has redis-server
    need nginx test -x /usr/sbin/nginx
    need nodejs has node
    need npm has npm
    ;;
*)
    echo "set-up: unknown purpose \`$purpose\`" >&2
    exit 2
    ;;
esac

if [ ${#missing[@]} -gt 0 ]; then
    echo "set-up: installing ${missing[*]}"
    if ! has apt-get >/dev/null; then
        echo "set-up: no \`apt-get\` here; install what these Debian packages hold, then try again: ${missing[*]}" >&2
        exit 1
    fi
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! has sudo >/dev/null; then
            echo "set-up: not root and no \`sudo\`; as root run: apt-get install ${missing[*]}" >&2
            exit 1
        fi
        as_root=(sudo)
    fi
    # The way Debian offers to keep packages from starting their services while they are installed.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" install -m 755 /dev/stdin $policy
        trap '"${as_root[@]}" rm -f "$policy"' EXIT
    fi
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
    for service in redis-server nginx supervisor; do
        if [[ " ${missing[*]} " == *" $service "* ]] && [ -d /run/systemd/system ]; then
            "${as_root[@]}" systemctl disable --quiet $service || true
        fi
    done
fi

if ! has cargo >/dev/null; then
    cat >&2 <<'END'
set-up: no `cargo` here. qfleet needs Rust 1.95 or newer, which Debian does not have yet. Get it from https://rustup.rs :

    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh
    . "$HOME/.cargo/env"

and try again.
END
    exit 1
fi

# The Node libraries whose queues are tested and whose workers are measured, as the lock file names them; again only when
# that has changed.
if [ "$purpose" = test ] || [ "$purpose" = bench ]; then
    source=crates/testkit/node
    modules=target/node
    if ! cmp -s $source/package-lock.json $modules/installed-lock.json; then
        mkdir -p $modules
        cp $source/package.json $source/package-lock.json $modules/
        npm install --no-audit --no-fund --loglevel error --prefix $modules
        cp $source/package-lock.json $modules/installed-lock.json
    fi
fi

# The newest supervisorctl beside Debian's, once. Where pip cannot fetch it the tests run with Debian's alone.
if [ "$purpose" = test ]; then
    version=4.3.0
    folder=target/supervisor
    if ! grep -qx $version $folder/installed 2>/dev/null; then
        if python3 -m venv $folder && $folder/bin/pip install --quiet --disable-pip-version-check supervisor==$version; then
            echo $version >$folder/installed
        else
            echo "set-up: supervisor $version is not to be had by pip; its client is tested in Debian's version only" >&2
        fi
    fi
fi
