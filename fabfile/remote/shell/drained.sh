# Every server that somebody drained, as it was written: a line of facts, and one of when. $root.
for record in "$root"/drained/*.json; do
    [ -e "$record" ] && cat "$record"
done
true
