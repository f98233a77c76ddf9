# One service on one application host. $folder, $project, $service, $image, $form.
say "project $service"
if [ -e "$folder" ]; then
    if [ -w "$folder" ]; then echo ok; else echo "not writable for $(id -un)"; fi
elif [ -w "$(dirname "$folder")" ]; then
    echo absent
else
    echo "absent, and $(id -un) can't make it in $(dirname "$folder")"
fi
[ -e "$folder/docker-compose.yml" ] && echo provisioned
say "containers $service"
ids=$(docker ps -q --no-trunc --filter "label=com.docker.compose.project=$project" 2>/dev/null)
[ -z "$ids" ] || docker inspect --type container --format "$form" $ids 2>/dev/null
say "digests $service"
docker image ls --digests --no-trunc --format '{{.Digest}}' "$image" 2>/dev/null
