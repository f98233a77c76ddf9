# The digest under which this host knows $reference of $repository.
digest() {
    case $reference in *@*)
        docker image inspect "$reference" >/dev/null 2>&1 && echo "${reference#*@}"
        return ;;
    esac
    docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$reference" \
        2>/dev/null | while read -r known; do
        case $known in "$repository"@*) echo "${known#*@}"; break ;; esac
    done
}
