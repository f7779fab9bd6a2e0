#!/usr/bin/env bash
# Starts the demonstration fleet in the foreground, pushes some jobs, and shows what became of them.
# Ctrl-C drains the fleet; the scratch directory goes with it. usage: run.sh path/to/qfleet
set -euo pipefail

qfleet=$(realpath "${1:?usage: run.sh path/to/qfleet}")
fleet='' samples='' code=0

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

leave() {
    # A second Ctrl-C is for the fleet, which then cuts off what runs; this script stays to clean up behind it.
    trap : INT TERM
    trap - EXIT
    [ -z "$samples" ] || kill "$samples" 2>/dev/null || true
    if [ -n "$fleet" ]; then
        kill -TERM "$fleet" 2>/dev/null || true
        while kill -0 "$fleet" 2>/dev/null; do wait "$fleet" || true; done
        code=0
        wait "$fleet" || code=$?
        say "the fleet has ended with exit code $code, nothing is left behind"
    fi
    rm -rf "${DEMO_DIR:-}"
    exit "$code"
}
trap leave EXIT
trap 'trap : INT TERM; code=130; exit' INT TERM

DEMO_HOME=$(cd "$(dirname "$0")" && pwd)
DEMO_DIR=$(mktemp -d "${TMPDIR:-/tmp}/qfleet-demo.XXXXXX")
DEMO_SECRET="whsec_$(head -c 32 /dev/urandom | base64 -w0)"
DEMO_PORT=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export DEMO_HOME DEMO_DIR DEMO_SECRET DEMO_PORT
export QFLEET_SOCKET="$DEMO_DIR/qfleet.sock"

push_samples() {
    until "$qfleet" status 2>/dev/null | grep -q RUNNING && ! "$qfleet" status | grep -qv RUNNING; do
        kill -0 "$fleet" 2>/dev/null || return 0
        sleep 0.2
    done
    say "pushing jobs"
    for n in 1 2 3 4 5; do
        "$qfleet" push messages 'App\Mail\Welcome@send' "{\"customer\": $n, \"tags\": [], \"id\": 922337203685477580$n}"
    done
    "$qfleet" push messages 'App\Mail\Flaky@send' '{"kind": "flaky"}'
    "$qfleet" push messages 'App\Mail\Busy@send' '{"kind": "busy"}'
    "$qfleet" push messages 'App\Mail\Refused@send' '{"kind": "refused"}'
    "$qfleet" push messages 'App\Mail\Later@send' '{"customer": 7}' --delay 3s
    "$qfleet" push thumbnails 'App\Images\Thumbnail@make' '{"image": "äöü.png"}'
    "$qfleet" push thumbnails 'App\Images\Thumbnail@make' '{"image": "日本.png"}'
    "$qfleet" push reports 'App\Reports\Monthly@build' '{"month": "2026-11"}'
    # Short naps, so that none of them outlives the demonstration.
    for _ in {1..30}; do sleep 0.2; done
    say "qfleet status"
    "$qfleet" status || true
    say "qfleet queues"
    "$qfleet" queues || true
    say "qfleet failed"
    "$qfleet" failed list || true
    say "the fleet goes on; try: QFLEET_SOCKET=$QFLEET_SOCKET $qfleet status    (Ctrl-C drains and ends it)"
}

"$qfleet" run --config "$DEMO_HOME/qfleet.yaml" &
fleet=$!

push_samples &
samples=$!
wait "$fleet"
