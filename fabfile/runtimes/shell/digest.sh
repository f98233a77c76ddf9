# The digest under which this host knows $reference of $repository.
digest() {
    docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$reference" \
        2>/dev/null | grep -F "$repository@" | head -n 1 | sed 's/.*@//'
}
