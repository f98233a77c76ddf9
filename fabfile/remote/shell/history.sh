# The newest rollouts of this host, the newest first: how each ended, and its records of instances;
# the plan of one that has not ended, or whose end was written by an older Evenkeel. $root, $most.
newest_plan() {
    newest=
    for plan in "$1"/plan-????.json; do [ -s "$plan" ] && newest=$plan; done
    [ -n "$newest" ] || return 0
    echo "== plan $(basename "$newest" .json)"
    cat "$newest"
    echo
}
for folder in $(ls -1dr "$root"/rollouts/*/ 2>/dev/null | head -n "$most"); do
    is_known "$folder" || continue
    if is_ended "$folder"; then
        echo "== ended $(basename "$folder")"
        cat "$folder/finished.json"
        echo
        grep -q '"service"' "$folder/finished.json" || newest_plan "$folder"
    else
        echo "== open $(basename "$folder")"
        newest_plan "$folder"
    fi
    for record in "$folder"/done/instance.*.json; do
        [ -e "$record" ] || continue
        echo "== done $(basename "$record" .json)"
        cat "$record"
        echo
    done
done
true
