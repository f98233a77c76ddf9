# Lay the releases that come as a tar on stdin down under $folder/releases; one that is there
# already stays. They are checked by Compose before anything is kept. $ids, $images (repository@
# digest of each), $tags (local tag of each), $project.
umask 002
{ mkdir -p "$folder/releases" "$folder/current" && cd "$folder/releases"; } || exit 71
find . -maxdepth 1 -name '.new.*' -mmin +60 -exec rm -rf {} +
new=$(mktemp -d .new.XXXXXX) || exit 71
trap 'rm -rf "$new"' EXIT
{ chmod 2775 "$new" && tar -xf - -C "$new"; } || exit 71
mkdir "$new/releases"
first=
blocks=
for id in $ids; do
    ln -s "../$id" "$new/releases/$id"
    first=${first:-$id}
    blocks="$blocks $new/$id/block.yml"
done
cat "$new/$first/base.yml" $blocks >"$new/check.yml"
docker compose -p "$project" -f "$new/check.yml" config -q || exit 65
for id in $ids; do
    [ -e "$id/release.json" ] && continue
    rm -rf "$id"
    mv "$new/$id" "$id" || exit 71
done
eval "set -- $images"
for tag in $tags; do
    docker tag "$1" "$tag" || exit 71
    shift
done
sync .
