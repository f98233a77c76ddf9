# Take every lock of $keys for $owner, or none. $facts: JSON. $root, $wait.
umask 002
[ -w "$root" ] || { echo "$root is missing or not writable for $(id -un)" >&2; exit 71; }
mkdir -p "$root/locks" "$root/rollouts"
cd "$root/locks" || exit 71
taken=
give_back() { for key in $taken; do rm -f "$key.lock"; done; }
take() {
    exec 9>>"$1.flock"
    chmod -f g+w "$1.flock"
    flock -w "$wait" 9 || { give_back; exit 74; }
    if [ -s "$1.lock" ]; then
        echo "held $1 $(($(date +%s) - $(stat -c %Y "$1.lock")))"
        cat "$1.lock"
        give_back
        exit 73
    fi
    epoch=$(($(cat "$1.epoch" 2>/dev/null || echo 0) + 1))
    { echo "$epoch" >"$1.epoch.new" && mv -f "$1.epoch.new" "$1.epoch"; } || exit 71
    {
        printf '%s %s\n' "$owner" "$epoch"
        printf '%s\n' "$facts"
        date -u +%Y-%m-%dT%H:%M:%SZ
    } >"$1.lock.new"
    sync "$1.lock.new"
    mv -f "$1.lock.new" "$1.lock" || exit 71
    taken="$taken $1"
    echo "got $1 $epoch"
    exec 9>&-
}
for key in $keys; do take "$key"; done
