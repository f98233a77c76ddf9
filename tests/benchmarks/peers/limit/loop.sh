#!/bin/sh
# The least there is: each instance's new version in .env, `docker compose up`, and it answers.
# No drain, no balancer, nothing recorded; runs on the host itself, one instance after the other.
# Prints the milliseconds of each.
set -e
cd /srv/bench
for n in 1 2 3; do
    began=$(date +%s%3N)
    sed -i "s/^APP_${n}_VERSION=.*/APP_${n}_VERSION=$1/" .env
    docker compose up -d --no-deps "app_$n" >/dev/null 2>&1
    until curl -sf -m 1 -o /dev/null "http://127.0.0.1:300$n/ping"; do sleep 0.02; done
    echo $(($(date +%s%3N) - began))
done
