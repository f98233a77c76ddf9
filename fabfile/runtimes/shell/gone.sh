# Wait until the container of $service in $project that runs now has stopped. Exit 1 where what
# runs is of $release already: then there is nothing to wait for.
set -- $(docker ps -q --filter "label=com.docker.compose.project=$project" \
    --filter "label=com.docker.compose.service=$service")
[ $# -gt 0 ] || exit 0
for id; do
    [ "$(docker inspect --format '{{index .Config.Labels "evenkeel.release"}}' "$id")" != "$release" ] || exit 1
done
docker wait "$@"
