# Every lock on this host, with the seconds since its holder's last sign of life. $root.
cd "$root/locks" 2>/dev/null || exit 0
for lock in *.lock; do
    [ -s "$lock" ] || continue
    beat=$(stat -c %Y "$lock" 2>/dev/null) || continue
    echo "held ${lock%.lock} $(($(date +%s) - beat))"
    cat "$lock"
done
