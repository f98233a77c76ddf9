# What a host is like, for `fab doctor`. It changes nothing. $root, $tools, $docker (non-empty where
# Docker is needed), $folders (further disks), $registries (names).
say() { printf '\n== %s\n' "$1"; }
say now
date +%s.%N
say user
id -un
say missing
for tool in $tools; do command -v "$tool" >/dev/null 2>&1 || echo "$tool"; done
say state
if [ ! -d "$root" ]; then
    echo missing
elif [ ! -w "$root" ]; then
    echo "not writable for $(id -un)"
else
    stat -c 'ready %a %G' "$root"
fi
# The first value counts for sshd; what stands under Match is for others.
say sessions
for file in /etc/ssh/sshd_config.d/*.conf /etc/ssh/sshd_config; do
    [ ! -r "$file" ] || awk 'tolower($1) == "match" { exit }
        tolower($1) == "maxsessions" { print $2; exit }' "$file"
done
say disk
for place in ${docker:+/var/lib/docker} $folders; do
    while [ ! -e "$place" ]; do place=$(dirname "$place"); done
    df -Pk "$place" 2>/dev/null | tail -n 1
done
if [ -n "$docker" ]; then
    say docker
    docker version --format '{{.Server.Version}}' 2>&1
    say compose
    docker compose version --short 2>&1
fi
# A registry that speaks plain HTTP, or asks for a login, answers, too.
for registry in $registries; do
    say "registry $registry"
    case $registry in docker.io) place=registry-1.docker.io ;; *) place=$registry ;; esac
    for scheme in https http; do
        code=$(curl -ks -o /dev/null -m 5 -w '%{http_code}' "$scheme://$place/v2/" 2>/dev/null)
        [ "${code:-000}" = 000 ] || break
    done
    echo "${code:-000}"
done
