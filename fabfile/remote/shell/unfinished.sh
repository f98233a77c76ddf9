# The id of every rollout that this host knows of and that never ended, and whose service it is of,
# where its plan says so. $root.
for folder in "$root"/rollouts/*/; do
    is_known "$folder" && ! is_ended "$folder" || continue
    service=$(cat "$folder"/plan-????.json 2>/dev/null | grep -o '"service": "[^"]*"' | head -n 1)
    service=${service#*: \"}
    echo "$(basename "$folder") ${service%\"}"
done
