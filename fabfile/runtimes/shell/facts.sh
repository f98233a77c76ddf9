# All there is to know about an application host before anything changes; when it is looked at once
# more ($again), only what somebody else's rollout changes. $folder, $project.
say() { printf '\n== %s\n' "$1"; }
if [ -z "$again" ]; then
    say compose
    docker compose version --short 2>&1 &
    docker=$(docker version --format '{{.Server.Version}}' 2>&1)
    wait
    say docker
    printf '%s\n' "$docker"
    say tools
    for tool in awk curl flock gzip tar timeout; do command -v $tool >/dev/null || echo $tool; done
    say disk
    df -Pk /var/lib/docker 2>/dev/null | tail -n 1
    df -Pk "$folder" 2>/dev/null | tail -n 1
fi
say project
if [ -e "$folder" ]; then
    if [ -w "$folder" ]; then echo ok; else echo "not writable"; fi
elif [ -w "$(dirname "$folder")" ]; then
    echo absent
else
    echo "absent, and $(dirname "$folder") is not writable"
fi
[ -e "$folder/docker-compose.yml" ] && echo provisioned
say current
for link in "$folder"/current/*; do
    [ -L "$link" ] && release=$(readlink "$link") && echo "${link##*/} ${release##*/}"
done
say closed
for file in "$folder"/current/*/env; do [ -e "$file" ] && [ ! -r "$file" ] && echo "$file"; done
say kept
cat "$folder"/releases/*/release.json 2>/dev/null
say containers
list_containers
