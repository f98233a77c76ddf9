# Lay the releases that come as a tar on stdin down under $folder/releases; one that is there
# already stays, but for the rest of the compose file, which is no part of what its id stands for.
# They are checked by Compose before anything is kept. $ids, $images (repository@digest of each),
# $tags (local tag of each), $project.
umask 002
{ mkdir -p "$folder/releases" "$folder/current" && cd "$folder/releases"; } || exit 71
find . -maxdepth 1 -name '.new.*' -mmin +60 -exec rm -rf {} +
new=$(mktemp -d .new.XXXXXX) || exit 71
# Beside the live file, because that is where relative paths and .env are looked up.
check=$folder/$new.yml
trap 'rm -rf "$new" "$check"' EXIT
{ chmod 2775 "$new" && tar -xf - -C "$new"; } || exit 71
first=
blocks=
not_yet=
for id in $ids; do
    first=${first:-$id}
    blocks="$blocks $new/$id/block.yml"
    not_yet="$not_yet;s#releases/$id/env#releases/$new/$id/env#"
done
{ cat "$new/$first/base.yml" $blocks | sed "${not_yet#;}" >"$check"; } || exit 71
docker compose -p "$project" -f "$check" config -q </dev/null || exit 65
for id in $ids; do
    if [ -e "$id/release.json" ]; then
        mv -f "$new/$id/base.yml" "$id/base.yml" || exit 71
    else
        rm -rf "$id"
        mv "$new/$id" "$id" || exit 71
    fi
done
eval "set -- $images"
for tag in $tags; do
    docker tag "$1" "$tag" || exit 71
    shift
done
sync .
