# The logs of each of $services as they are: "NAME STAMP TEXT". $tail; $since: empty, or for Docker.
for service in $services; do
    id=$(container_of "$service")
    [ -n "$id" ] || { echo "$service has no container" >&2; continue; }
    docker logs --timestamps --tail "$tail" ${since:+--since "$since"} "$id" 2>&1 |
        LC_ALL=C sed "s/^/$service /"
done
true
