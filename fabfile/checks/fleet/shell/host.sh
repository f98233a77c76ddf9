# How a host is doing, for everybody: its clock, its disks, Docker and all containers. It changes
# nothing. $folders: what else lies on disks we need; $docker: non-empty where Docker is needed.
say() { printf '\n== %s\n' "$1"; }
say now
date +%s
say disk
df -Pk /var/lib/docker $folders 2>/dev/null | tail -n +2
if [ -n "$docker" ]; then
    say docker
    if ids=$(docker ps -aq --no-trunc 2>&1); then
        echo ok
        say containers
        # One that ends between the two questions is merely not told.
        [ -z "$ids" ] || docker inspect --type container --format "$form" $ids 2>/dev/null
    else
        echo "$ids"
    fi
fi
