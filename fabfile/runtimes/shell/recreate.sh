# Replace the container of $service in $project; says what runs afterwards.
docker compose -p "$project" -f docker-compose.yml up -d --no-deps --no-build --pull never \
    "$service" </dev/null >&2 || exit 70
list_containers
