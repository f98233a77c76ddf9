# Every unfinished rollout that this host knows of: its plans, and how far each record is. $root.
for folder in "$root"/rollouts/*/; do
    is_known "$folder" && ! is_ended "$folder" || continue
    echo "== rollout $(basename "$folder")"
    for file in "$folder"/plan-????.json "$folder"/ahead/*.json "$folder"/undo/*.json \
        "$folder"/done/*.json "$folder"/hooks/*.json "$folder"/finished.json; do
        [ -e "$file" ] || continue
        name=$(basename "$file" .json)
        case $name in
            plan-*) echo "== plan $name" ;;
            finished) echo "== finished $name" ;;
            *) echo "== $(basename "$(dirname "$file")") $name" ;;
        esac
        cat "$file"
        echo
    done
done
true
