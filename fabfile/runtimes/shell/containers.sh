# One JSON line for each container of $project (of $service in it, unless empty).
list_containers() {
    docker ps -a --no-trunc --filter "label=com.docker.compose.project=$project" \
        ${service:+--filter "label=com.docker.compose.service=$service"} \
        --format '{"id":{{json .ID}},"service":{{json (.Label "com.docker.compose.service")}},"release":{{json (.Label "evenkeel.release")}},"version":{{json (.Label "evenkeel.version")}},"image":{{json .Image}},"status":{{json .State}}}'
}
