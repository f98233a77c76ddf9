# HAProxy's configuration, from the host or out of its container. $config, $container. Exit 1: it
# can't be read.
if [ -f "$config" ] && [ -r "$config" ]; then
    cat "$config"
elif [ -n "$container" ] && command -v docker >/dev/null 2>&1; then
    docker exec "$container" cat "$config" </dev/null 2>/dev/null
else
    false
fi
