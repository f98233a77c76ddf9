# Point instances at releases ($pairs: "app_1 ID app_2 ID …") and rewrite the live compose file
# from the blocks and the rest that release $base came with. Each replacement is a rename; the
# compose file comes last. $folder.
umask 002
cd "$folder" || exit 71
present() {
    [ -e "releases/$1/release.json" ] || { echo "release $1 is not on this host" >&2; exit 71; }
}
point() {
    present "$2"
    # Both are in use at this moment: that is how old a release counts when there are too many.
    touch -c "current/$1" "releases/$2" 2>/dev/null
    { ln -sfn "../releases/$2" "current/.$1.new" && mv -T "current/.$1.new" "current/$1"; } || exit 71
}
present "$base"
set -- $pairs
while [ $# -gt 0 ]; do
    point "$1" "$2"
    shift 2
done
{ cp "releases/$base/base.yml" .base.yml.new && mv .base.yml.new base.yml; } || exit 71
cat base.yml current/*/block.yml >.docker-compose.yml.new || exit 71
sync .docker-compose.yml.new
mv .docker-compose.yml.new docker-compose.yml || exit 71
