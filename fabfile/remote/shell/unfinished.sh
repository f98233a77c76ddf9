# The id of every rollout that this host knows of and that never ended. $root.
for folder in "$root"/rollouts/*/; do
    is_known "$folder" && ! is_ended "$folder" && basename "$folder"
done
