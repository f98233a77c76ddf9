#!/bin/sh
# openssh.sh SSH_CONFIG HOSTS_FILE COMMAND…: a ControlMaster for each host, 32 at a time.
set -e
config=$1 hosts=$2
shift 2
for command; do
    xargs -P 32 -I '{}' ssh -F "$config" '{}' "$command" <"$hosts" >/dev/null
done
