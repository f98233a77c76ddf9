# Every unfinished rollout that this host knows of: its newest complete plan, and how far each
# record is. $root.
for folder in "$root"/rollouts/*/; do
    [ -e "$folder/plan-0001.json" ] && [ ! -e "$folder/finished.json" ] || continue
    echo "== rollout $(basename "$folder")"
    newest=
    for plan in "$folder"/plan-????.json; do [ -s "$plan" ] && newest=$plan; done
    echo "== plan $(basename "$newest")"
    cat "$newest"
    echo
    for record in "$folder"/undo/*.json "$folder"/done/*.json "$folder"/hooks/*.json; do
        [ -e "$record" ] || continue
        echo "== $(basename "$(dirname "$record")") $(basename "$record" .json)"
        cat "$record"
        echo
    done
done
true
