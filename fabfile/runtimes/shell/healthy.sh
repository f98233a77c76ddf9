# Wait until $service of $project is healthy, asked from its own host: a container of $release
# runs, its own health check (where it has one) passes, and $path answers with $status (and
# $contains) for $steady_for without a break. Times are in hundredths of a second, as /proc/uptime
# counts them; $interval is in seconds. Exit 0, or 69 and the last thing that was wrong.
now() {
    read -r up _ </proc/uptime
    echo $((${up%.*} * 100 + 1${up#*.} - 100))
}
wrong="no answer yet"
began=$(now)
steady=
looks=0
facts='{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}} {{.RestartCount}} {{index .Config.Labels "evenkeel.release"}} {{.State.ExitCode}}{{range .NetworkSettings.Networks}} {{.IPAddress}}{{end}}'
containers() {
    docker ps -q --no-trunc --filter "label=com.docker.compose.project=$project" \
        --filter "label=com.docker.compose.service=$service" "$@"
}
look() {
    # What runs comes first: a recreate that was killed can leave a newer twin that never started.
    set -- $(containers)
    [ $# -gt 0 ] || set -- $(containers -a)
    [ $# -gt 0 ] || { wrong="there is no container"; return 1; }
    set -- $(docker inspect --format "$facts" "$1")
    [ $# -ge 5 ] || { wrong="the container went away"; return 1; }
    [ "$publish" -gt 0 ] && address=127.0.0.1:$publish || address=${6:-127.0.0.1}:$port
    [ "$4" = "$release" ] || { wrong="another release runs: $4"; return 1; }
    [ "$3" -lt 3 ] || { wrong="the container keeps restarting (exit code $5)"; return 2; }
    [ "$1" = running ] || { wrong="the container is $1 (exit code $5)"; return 1; }
    case $2 in
        none | healthy) ;;
        *) wrong="the container's own health check says $2"; return 1 ;;
    esac
}
# Hundredths of a second for one answer. What is sent to a container whose network is not up yet is
# lost, and TCP says it again only after a second: until the first answer, nobody waits for that.
# Who has no patience for many tries gives one all of it.
limit=15
[ "$patience" -ge 500 ] || limit=200
ask() {
    [ -z "$steady" ] || limit=200
    answer=$(curl -q -s -g --noproxy '*' -m "$((limit / 100)).$((limit / 10 % 10))$((limit % 10))" \
        -w '\n%{http_code}' "http://$address$path" 2>/dev/null) || {
        # 28: it took too long. The next one may take longer: a slow answer is an answer, too.
        [ $? -ne 28 ] || limit=$((limit < 130 ? limit * 3 / 2 : 200))
        wrong="$path does not answer"
        return 1
    }
    code=${answer##*
}
    [ "$code" = "$status" ] || { wrong="$path answers $code, not $status"; return 1; }
    case ${answer%?"$code"} in
        *"$contains"*) ;;
        *) wrong="$path answers $code without '$contains'"; return 1 ;;
    esac
}
give_up() {
    # A container that is not there or does not run explains more than that nothing answers.
    look
    echo "$wrong"
    exit 69
}
address=127.0.0.1:$publish
[ "$publish" -gt 0 ] || look
while :; do
    if ask && { [ -n "$steady" ] || look; }; then
        at=$(now)
        : "${steady:=$at}"
        if [ $((at - steady)) -ge "$steady_for" ]; then
            [ "$steady_for" -eq 0 ] || look && { echo "healthy after $(((at - began) * 10)) ms"; exit 0; }
            steady=
        fi
        sleep "$interval"
    else
        [ -z "$steady" ] || wrong="healthy at first, then $wrong"
        steady=
        looks=$((looks + 1))
        if [ $((looks % 20)) -eq 0 ]; then
            look || [ $? -ne 2 ] || give_up
        fi
        [ $(($(now) - began)) -lt "$patience" ] || give_up
        sleep 0.05
    fi
done
