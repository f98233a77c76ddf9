# Remove the journals $ids of rollouts that ended. Each goes away at once or not at all: half of one
# would read as a rollout that never ended. $root.
cd "$root/rollouts" || exit 71
rm -rf .gone.*
for id in $ids; do
    [ -e "$id/finished.json" ] || continue
    mv "$id" ".gone.$id" && rm -rf ".gone.$id" && echo "forgot $id"
done
true
