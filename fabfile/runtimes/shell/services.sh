# What the scripts below share: the container of a service of $project, the running one where a
# twin was left behind; and the watch that ends a script when nobody listens any more.
container_of() {
    set -- "label=com.docker.compose.project=$project" "label=com.docker.compose.service=$1" "$2"
    found=$(docker ps -q --no-trunc --filter "$1" --filter "$2" | head -n 1)
    [ -n "$found" ] || [ "$3" = running ] ||
        found=$(docker ps -aq --no-trunc --filter "$1" --filter "$2" | head -n 1)
    [ -z "$found" ] || echo "$found"
}
# Each "." on stdin is a sign of life, and answered by one on stderr. When they stay away (the other
# end went to sleep, or its network is gone), or stdin ends (it closed, or died), it is over.
# The answer comes from a shell of its own: nobody may be there to take it, and to die of that is not
# for whoever has to end the others.
while_heard() {
    while [ "$(timeout 60 head -c 1 2>/dev/null)" = . ]; do (echo . >&2); done
}
end_all() {
    trap '' TERM
    kill -TERM 0
}
