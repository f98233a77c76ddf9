# What lies under $folder/releases, and what is in use of it. "Used" is when a release was staged
# or last ran, in seconds since 1970: assemble.sh and stage.sh renew its folder's mtime. $root.
say() { printf '\n== %s\n' "$1"; }
say releases
stat -c '%Y %n' "$folder"/releases/*/ 2>/dev/null | awk '{
    path = substr($0, length($1) + 2)
    sub("/+$", "", path)
    name = path
    sub(".*/", "", name)
    if ((getline record < (path "/release.json")) > 0) print name, $1, record
    close(path "/release.json")
}'
say current
for link in "$folder"/current/*; do
    [ -L "$link" ] && release=$(readlink "$link") && echo "${link##*/} ${release##*/}"
done
say open
for journal in "$root"/rollouts/*/; do
    is_known "$journal" && ! is_ended "$journal" || continue
    grep -rhoE '"id": *"[^"]*"' "$journal" | cut -d '"' -f 4
done | sort -u
say containers
list_containers
