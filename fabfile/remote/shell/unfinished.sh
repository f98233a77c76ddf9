# The id of every rollout that this host knows of and that never ended. $root.
for folder in "$root"/rollouts/*/; do
    [ -e "$folder/plan-0001.json" ] && [ ! -e "$folder/finished.json" ] && basename "$folder"
done
