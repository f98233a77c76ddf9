# Run $command in the container of each of $services, side by side. stdout: "NAME TEXT" of both its
# streams; stderr: "exit NAME CODE", the code being empty where no container runs.
one() {
    id=$(container_of "$service" running)
    if [ -z "$id" ]; then
        echo "exit $service " >&2
        return
    fi
    { { docker exec "$id" sh -c "$command" 2>&1; echo "exit $service $?" >&3; } |
        while IFS= read -r line || [ -n "$line" ]; do printf '%s %s\n' "$service" "$line"; done; } 3>&2
}
exec 5<&0
{ while_heard; end_all; } <&5 >/dev/null &
all=
for service in $services; do
    one </dev/null 5<&- &
    all="$all $!"
done
exec 5<&-
wait $all
end_all
