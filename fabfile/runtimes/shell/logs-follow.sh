# The logs of each of $services as they come, of the containers that replace these ones too:
# "NAME STAMP TEXT". $tail; $since: empty, or for Docker.
follow() {
    seen=none
    set -- --tail "$tail" ${since:+--since "$since"}
    while :; do
        id=$(container_of "$service")
        now=$([ -z "$id" ] || docker inspect --type container \
            --format '{{.Id}} {{.State.StartedAt}}' "$id" 2>/dev/null)
        if [ -n "$now" ] && [ "$now" != "$seen" ]; then
            [ "$seen" = none ] || set -- --since "${now#* }"
            seen=$now
            docker logs --timestamps --follow "$@" "$id" 2>&1 | LC_ALL=C sed -u "s/^/$service /"
        fi
        sleep 1
    done
}
for service in $services; do follow </dev/null & done
while_heard
end_all
