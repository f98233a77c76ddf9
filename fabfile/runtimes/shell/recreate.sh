# Replace the container of $service in $project; says what runs afterwards.
# The container $was (empty: none) goes although nothing about it has changed. Once it is gone, this
# may be run again and replaces nothing more.
anew=
[ -z "$was" ] || [ "$(docker inspect --type container --format '{{.Id}}' "$was" 2>/dev/null)" != "$was" ] ||
    anew=--force-recreate
up() {
    docker compose -p "$project" -f docker-compose.yml up -d --no-deps --no-build --pull never \
        $anew "$service" </dev/null 2>&1
    echo $? >&9
}
# Whoever asked may be gone by now. A Compose whose words nobody takes dies of it, between the end of
# the old container and the start of the new one.
replaced() {
    status=$( { up | { trap '' PIPE; cat || cat >/dev/null; } >&2; } 9>&1 )
    [ "$status" = 0 ]
}
# A Compose or an engine that was interrupted leaves a container behind that never started. The next
# Compose removes it and gives its name to another one at the same time, which may fail.
cleared() {
    left=$(docker ps -aq --filter "label=com.docker.compose.project=$project" \
        --filter "label=com.docker.compose.service=$service" --filter status=created)
    [ -n "$left" ] && docker rm $left >/dev/null 2>&1
    [ -n "$left" ]
}
replaced || { cleared && replaced; } || exit 70
list_containers
