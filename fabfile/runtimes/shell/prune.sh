# Remove the releases $pairs ("ID USED …") and the local tags of their images, $tag:ID. The image
# itself stays where it has any other name: other things may need it, and `docker image prune` takes
# what nothing needs. A release that was staged anew since somebody looked stays, too. $folder.
cd "$folder/releases" || exit 71
rm -rf .gone.*
set -- $pairs
while [ $# -gt 1 ]; do
    id=$1
    used=$2
    shift 2
    [ "$(stat -c %Y "$id" 2>/dev/null)" = "$used" ] || continue
    if docker image inspect "$tag:$id" >/dev/null 2>&1; then
        docker image rm --no-prune "$tag:$id" >/dev/null || continue
    fi
    mv "$id" ".gone.$id" && rm -rf ".gone.$id" && echo "pruned $id"
done
true
