# Every lock on this host, with the seconds since its holder's last sign of life. $root.
for lock in "$root"/locks/*.lock; do
    [ -e "$lock" ] || continue
    name=${lock##*/}
    beat=$(stat -c %Y "$lock" 2>/dev/null) || continue
    echo "held ${name%.lock} $(($(date +%s) - beat))"
    cat "$lock" && echo
done
