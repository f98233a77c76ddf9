# The last $lines lines of the container of $service, whatever state it is in.
id=$(docker ps -aq --filter "label=com.docker.compose.project=$project" \
    --filter "label=com.docker.compose.service=$service" | head -n 1)
[ -n "$id" ] && docker logs --tail "$lines" "$id" 2>&1
