# How rollout $rollout ended on this host, and the records that were left open all the same. $root.
folder=$root/rollouts/$rollout
[ -e "$folder/finished.json" ] || exit 0
echo "== rollout $rollout"
for record in "$folder"/ahead/*.json "$folder"/undo/*.json; do
    [ -e "$record" ] || continue
    echo "== $(basename "$(dirname "$record")") $(basename "$record" .json)"
    cat "$record"
    echo
done
true
