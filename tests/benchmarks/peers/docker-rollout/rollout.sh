#!/bin/sh
# The procedure that docker-rollout publishes, written anew: twice the containers, wait until the
# new ones are healthy, stop and remove the old ones.
#   rollout.sh VERSION
set -e
cd /srv/rollout
export VERSION="$1"
old=$(docker compose ps -q app)
count=$(echo "$old" | wc -l)
docker compose up -d --no-deps --no-recreate --scale "app=$((count * 2))" app
new=$(docker compose ps -q app | grep -vF "$old")
for _ in $(seq 600); do
    healthy=$(docker inspect --format '{{.State.Health.Status}}' $new | grep -cx healthy || true)
    [ "$healthy" = "$count" ] && break
    sleep 0.1
done
[ "$healthy" = "$count" ] || { docker rm -f $new; exit 1; }
docker stop $old
docker rm $old
