# One JSON line for each container of $project (of $service in it, unless empty).
list_containers() {
    set -- $(docker ps -aq --no-trunc --filter "label=com.docker.compose.project=$project" \
        ${service:+--filter "label=com.docker.compose.service=$service"})
    [ $# -eq 0 ] || docker inspect --format '{"id":{{json .Id}},"service":{{json (index .Config.Labels "com.docker.compose.service")}},"release":{{json (index .Config.Labels "evenkeel.release")}},"version":{{json (index .Config.Labels "evenkeel.version")}},"image":{{json .Config.Image}},"status":{{json .State.Status}},"restarts":{{json .RestartCount}}}' "$@"
}
