# Remove the locks $keys; one whose first line names no owner and epoch is kept aside. $root.
umask 002
cd "$root/locks" || exit 71
for key in $keys; do
    [ -e "$key.lock" ] || continue
    if ! head -n 1 "$key.lock" | grep -qE '^[^ ]+ [0-9]+$'; then
        mkdir -p ../kept-aside &&
            cp -p "$key.lock" "../kept-aside/$key.lock.$(date -u +%Y%m%dT%H%M%SZ)" || exit 71
    fi
    rm -f "$key.lock"
done
