#!/bin/sh
# Asks a URL again and again with curl, one line per answer, until Ctrl-C.
#   scripts/health-check.sh [URL] [interval in seconds]
# Each line: time, HTTP status (000: no answer), seconds it took, version and server.
# At the end: how many were asked and how many failed; exit 0 if none failed, else 2.
# It needs nothing but curl. `inv healthcheck` does more: a fixed rate, gaps, percentiles.
set -u

url=${1:-http://127.0.0.1:8080/}
interval=${2:-1}

usage() {
    echo "health-check.sh: $1" >&2
    echo "usage: health-check.sh [URL] [interval in seconds]" >&2
    exit 2
}

command -v curl >/dev/null 2>&1 || usage "curl is not installed"
case $url in
    http://?* | https://?*) ;;
    *) usage "'$url' is no http:// or https:// URL" ;;
esac
case $interval in
    '' | . | *[!0-9.]* | *.*.*) usage "'$interval' is no number of seconds" ;;
esac

asked=0
failed=0

finish() {
    echo "asked $asked times, $failed failed"
    [ "$asked" -gt 0 ] && [ "$failed" -eq 0 ] && exit 0
    exit 2
}
trap finish INT TERM

# The first value of a header or of a JSON field, from what curl printed.
header() {
    printf '%s\n' "$answer" | tr -d '\r' | sed -n "s/^$1: *//p" | head -n 1
}
field() {
    printf '%s\n' "$answer" | sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p" | head -n 1
}

while :; do
    # No proxy, no redirect, no retry: what this one request got is what counts.
    answer=$(curl --silent --include --noproxy '*' --max-time 5 \
        --write-out '\n%{http_code} %{time_total}' "$url" 2>/dev/null)
    outcome=$(printf '%s\n' "$answer" | tail -n 1)
    status=${outcome%% *}
    asked=$((asked + 1))
    case $status in
        [23]??) mark= ;;
        *) failed=$((failed + 1)) mark=' FAILED' ;;
    esac
    version=$(header '[Xx]-[Vv]ersion')
    server=$(header '[Xx]-[Ii]nstance')
    [ -n "$version" ] || version=$(field version)
    [ -n "$server" ] || server=$(field instance)
    printf '%s %s %ss %s %s%s\n' "$(date +%H:%M:%S)" "$status" "${outcome#* }" \
        "${version:--}" "${server:--}" "$mark"
    sleep "$interval"
done
