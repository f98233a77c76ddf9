# What lies under $folder/releases, and what is in use of it. "Used" is when a release was staged
# or last ran, in seconds since 1970: assemble.sh and stage.sh renew its folder's mtime. $root.
say() { printf '\n== %s\n' "$1"; }
say releases
for file in "$folder"/releases/*/release.json; do
    [ -e "$file" ] || continue
    used=$(stat -c %Y "${file%/*}") && printf '%s %s ' "$(basename "${file%/*}")" "$used" &&
        head -n 1 "$file" && echo
done
say current
for link in "$folder"/current/*; do
    [ -L "$link" ] && echo "$(basename "$link") $(basename "$(readlink "$link")")"
done
say open
for journal in "$root"/rollouts/*/; do
    is_known "$journal" && ! is_ended "$journal" || continue
    grep -rhoE '"id": *"[^"]*"' "$journal" | cut -d '"' -f 4
done | sort -u
say containers
list_containers
