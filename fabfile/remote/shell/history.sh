# The rollouts that ended here, the newest first, each with its records of instances. $root, $most.
for folder in $(ls -1dr "$root"/rollouts/*/ 2>/dev/null | head -n "$most"); do
    [ -e "$folder/finished.json" ] || continue
    echo "== ended $(basename "$folder")"
    cat "$folder/finished.json"
    for record in "$folder"/done/instance.*.json; do
        [ -e "$record" ] || continue
        echo "== done $(basename "$record" .json)"
        cat "$record"
    done
done
true
