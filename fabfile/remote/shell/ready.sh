# Is our folder there and ours to write? Prints "ready SALT", or why not. $root.
if [ ! -d "$root" ]; then
    echo missing
elif [ ! -w "$root" ]; then
    echo "not writable for $(id -un)"
else
    umask 002
    mkdir -p "$root/locks" "$root/rollouts"
    if [ ! -s "$root/salt" ]; then
        head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$root/salt.$$"
        mv -n "$root/salt.$$" "$root/salt"
        rm -f "$root/salt.$$"
    fi
    echo "ready $(cat "$root/salt")"
fi
