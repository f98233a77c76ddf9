# "local sha256:…" where the host holds the image; asks no registry.
held=$(digest)
[ -z "$held" ] || echo "local $held"
