# Run the hook $command in $folder, with the words of $env (NAME=value) in its environment, for
# $seconds at most; whatever it started and left behind is killed. Prints "ended CODE SECONDS" (and
# "late", if the deadline ended it) and the last $most bytes it wrote.
# With $record it happens once: there it says when it began, and then how it ended, whoever is still
# listening. $busy is locked meanwhile, so that the next rollout does not run the same beside it;
# $again runs it although it had begun before.
cd "$folder" || exit 71
began=$(date -u +%Y-%m-%dT%H:%M:%SZ)
# The group may write our files; what the hook makes is its own affair.
note() (
    umask 002
    mkdir -p "${record%/*}" && printf '%s\n' "$1" >"$record.new" && sync "$record.new" &&
        mv -f "$record.new" "$record" && sync "${record%/*}"
)
if [ -n "$record" ]; then
    exec 9>>"$busy" || exit 71
    chmod -f g+w "$busy"
    flock -w "$wait" 9 || { echo "an earlier run of it is still at work" >&2; exit 74; }
    [ -n "$again" ] || [ ! -e "$record" ] || { echo "it had begun before" >&2; exit 76; }
    note "{\"begun\": \"$began\"}" || exit 71
fi
work=$(mktemp -d) && mkfifo "$work/out" || exit 71
trap 'rm -rf "$work"' EXIT
{ tail -c "$most" <"$work/out" >"$work/last"; : >"$work/read"; } >/dev/null 2>&1 9>&- &
reader=$!
now() {
    read -r up _ </proc/uptime
    echo "${up%.*}"
}
start=$(now)
eval "set -- $env"
# A session of its own: its id is the group that is killed.
setsid env "$@" timeout -k 5 "$seconds" sh -c "$command" </dev/null >"$work/out" 2>&1 9>&- &
hook=$!
wait "$hook"
code=$?
took=$(($(now) - start))
kill -s KILL -- "-$hook" 2>/dev/null
late=
case $code in 124 | 137 | 143) [ "$took" -lt "$seconds" ] || late=late ;; esac
[ -z "$record" ] ||
    note "{\"begun\": \"$began\", \"ended\": \"$(date -u +%Y-%m-%dT%H:%M:%SZ)\", \"code\": $code}"
turns=0
until [ -e "$work/read" ]; do
    turns=$((turns + 1))
    if [ "$turns" -gt 40 ]; then
        kill "$reader" 2>/dev/null
        echo "(what it wrote is lost: something it left running still holds on to it)" >"$work/last"
        break
    fi
    sleep 0.05
done
echo "ended $code $took $late"
cat "$work/last"
