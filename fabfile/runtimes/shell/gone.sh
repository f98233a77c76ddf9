# Wait until the container of $service in $project that runs now has stopped. Exit 1 where what
# runs is of $release already, and not the container $was: then there is nothing to wait for.
set -- $(docker ps --no-trunc --filter "label=com.docker.compose.project=$project" \
    --filter "label=com.docker.compose.service=$service" \
    --format '{{.ID}}={{.Label "evenkeel.release"}}')
for one; do
    [ "${one#*=}" != "$release" ] || [ "${one%%=*}" = "$was" ] || exit 1
    docker wait "${one%%=*}" >/dev/null || exit 1
done
