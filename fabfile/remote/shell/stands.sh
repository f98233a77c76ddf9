# How far each rollout is that this host knows of and that never ended: names, no texts; of
# servers whose they are. $root.
for folder in "$root"/rollouts/*/; do
    is_known "$folder" && ! is_ended "$folder" || continue
    echo "== rollout $(basename "$folder")"
    for file in "$folder"/plan-????.json "$folder"/undo/*.json "$folder"/done/*.json; do
        [ -e "$file" ] || continue
        name=${file##*/}
        case $name in
            plan-*) echo "plan ${name%.json}" ;;
            *) in=${file%/*}; echo "${in##*/} ${name%.json}" ;;
        esac
    done
    whose "$folder/ahead" ahead-of
    whose "$folder/undo" undo-of
done
true
