# Point instances at releases ($pairs: "app_1 ID app_2 ID …") and rewrite the live compose file
# from the blocks. Each replacement is a rename; the compose file comes last. $folder.
umask 002
cd "$folder" || exit 71
point() {
    [ -e "releases/$2/release.json" ] || { echo "release $2 is not on this host" >&2; exit 71; }
    { ln -sfn "../releases/$2" "current/.$1.new" && mv -T "current/.$1.new" "current/$1"; } || exit 71
    { cp "releases/$2/base.yml" .base.yml.new && mv .base.yml.new base.yml; } || exit 71
}
set -- $pairs
while [ $# -gt 0 ]; do
    point "$1" "$2"
    shift 2
done
cat base.yml current/*/block.yml >.docker-compose.yml.new || exit 71
sync .docker-compose.yml.new
mv .docker-compose.yml.new docker-compose.yml || exit 71
