# Pull $reference; prints "digest sha256:…". With $user the password comes on stdin and is kept,
# for this one pull, in a folder of its own. Exit 68: the registry does not have it. 67: it could
# not be asked; then "local sha256:…" says that this host holds it already.
config=$(mktemp -d) || exit 71
trap 'rm -rf "$config"' EXIT
refused=
if [ -n "$user" ]; then
    docker --config "$config" login -u "$user" --password-stdin "$registry" \
        >/dev/null 2>"$config/why" || refused=67
fi
if [ -z "$refused" ]; then
    if docker --config "$config" pull "$reference" >"$config/said" 2>"$config/why" </dev/null; then
        # An image may be known under several digests: what was pulled just now is what counts.
        pulled=$(sed -n 's/^Digest: //p' "$config/said")
        echo "digest ${pulled:-$(digest)}"
        exit 0
    fi
    refused=67
    grep -qE 'manifest unknown|not found|does not exist' "$config/why" && refused=68
fi
cat "$config/why" >&2
held=$(digest)
[ -z "$held" ] || echo "local $held"
exit "$refused"
