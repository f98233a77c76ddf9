# The compose project of one service: what its file holds. $folder, $service.
say "project $service"
if [ -r "$folder/docker-compose.yml" ]; then
    echo present
    for link in "$folder"/current/*; do
        [ -L "$link" ] || continue
        release=$(readlink "$link")
        echo "current ${link##*/} ${release##*/}"
    done
    if [ -r "$folder/base.yml" ]; then
        cat "$folder/base.yml" "$folder"/current/*/block.yml 2>/dev/null |
            cmp -s - "$folder/docker-compose.yml" || echo edited
    fi
fi
