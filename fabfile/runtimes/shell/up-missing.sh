# Bring $project up to its compose file, but replace no instance ($ours): start $instances, which
# are new, and let Compose decide for the rest. With $user, a registry password comes on stdin.
config=$(mktemp -d) || exit 71
trap 'rm -rf "$config"' EXIT
if [ -n "$user" ]; then
    docker --config "$config" login -u "$user" --password-stdin "$registry" >/dev/null 2>"$config/why" ||
        { cat "$config/why" >&2; exit 67; }
fi
compose() { docker compose -p "$project" -f docker-compose.yml "$@" </dev/null; }
others=$(compose config --services | while read -r name; do
    case " $ours " in *" $name "*) ;; *) echo "$name" ;; esac
done)
if [ -n "$others" ]; then
    for image in $(compose config --images $others); do
        docker image inspect "$image" >/dev/null 2>&1 && continue
        docker --config "$config" pull -q "$image" >&2 </dev/null || exit 67
    done
    compose up -d --no-deps --no-build --pull never $others >&2 || exit 70
fi
[ -z "$instances" ] || compose up -d --no-deps --no-recreate --no-build --pull never $instances >&2 || exit 70
