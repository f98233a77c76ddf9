# Take every lock of $keys for $owner, or none. $facts: JSON. $root, $wait. A lock of one of $over
# (owners, and their recoveries: OWNER.…) that has not given a sign of life for $stale seconds is taken over: its epoch goes up,
# and because its flock is taken first, nothing of its holder is still at work here.
umask 002
[ -w "$root" ] || { echo "$root is missing or not writable for $(id -un)" >&2; exit 71; }
mkdir -p "$root/locks" "$root/rollouts"
cd "$root/locks" || exit 71
taken=
give_back() {
    for key in $taken; do rm -f "$key.lock"; done
    exit "$1"
}
trap 'give_back 71' HUP INT TERM
keep_aside() {
    mkdir -p ../kept-aside && cp -p "$1" "../kept-aside/$1.$(date -u +%Y%m%dT%H%M%SZ)"
    echo "lost $1"
}
# A count that was lost (a full disk, a power cut, an editor) goes on from the clock, which is
# ahead of every count, and not from 0: an epoch must never come back.
next_epoch() {
    epoch=
    [ ! -e "$1.epoch" ] || read -r epoch <"$1.epoch" || epoch=lost
    case ${epoch:-0} in
        0) epoch=1 ;;
        *[!0-9]* | 0*) keep_aside "$1.epoch"; epoch=$(date +%s) ;;
        *) epoch=$((epoch + 1)) ;;
    esac
    echo "$epoch" >"$1.epoch.new" && sync "$1.epoch.new" && mv -f "$1.epoch.new" "$1.epoch"
}
write_lock() {
    {
        printf '%s %s\n' "$owner" "$epoch" && printf '%s\n' "$facts" && date -u +%Y-%m-%dT%H:%M:%SZ
    } >"$1.lock.new" && sync "$1.lock.new" && mv -f "$1.lock.new" "$1.lock"
}
abandoned() {
    read -r holder _ <"$1.lock"
    for one in $over; do
        case $holder in
            "$one" | "$one".*) [ $(($(date +%s) - beat)) -ge "$stale" ]; return ;;
        esac
    done
    false
}
take() {
    exec 9>>"$1.flock"
    chmod -f g+w "$1.flock"
    flock -w "$wait" 9 || { echo "another command still works on $1" >&2; give_back 74; }
    # Its holder may give it back at any moment.
    if [ -e "$1.lock" ] && beat=$(stat -c %Y "$1.lock" 2>/dev/null) && ! abandoned "$1"; then
        echo "held $1 $(($(date +%s) - beat))"
        cat "$1.lock" 2>/dev/null
        give_back 73
    fi
    { next_epoch "$1" && write_lock "$1"; } || { rm -f "$1.lock"; give_back 71; }
    taken="$taken $1"
    echo "got $1 $epoch"
    exec 9>&-
}
for key in $keys; do take "$key"; done
