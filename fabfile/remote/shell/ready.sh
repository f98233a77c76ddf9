# Is our folder there and ours to write? Prints "ready SALT", or why not. $root.
if [ ! -d "$root" ]; then
    echo missing
elif [ ! -w "$root" ]; then
    echo "not writable for $(id -un)"
else
    umask 002
    mkdir -p "$root/locks" "$root/rollouts"
    if [ ! -s "$root/salt" ]; then
        # Whoever may deploy may read it, and nobody else. A link, because it never replaces
        # what another command was quicker to make.
        (umask 007 && head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$root/salt.$$")
        if [ -s "$root/salt.$$" ]; then
            [ ! -e "$root/salt" ] || [ -s "$root/salt" ] || rm -f "$root/salt"
            ln "$root/salt.$$" "$root/salt" 2>/dev/null
        fi
        rm -f "$root/salt.$$"
    fi
    if [ -s "$root/salt" ] && salt=$(cat "$root/salt"); then
        echo "ready $salt"
    else
        echo "without a salt that $(id -un) can read"
    fi
fi
