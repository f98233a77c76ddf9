# Start what is not there yet in $project, the rest of it included; replace nothing.
docker compose -p "$project" -f docker-compose.yml up -d --no-recreate --no-build \
    --pull missing </dev/null >&2 || exit 70
