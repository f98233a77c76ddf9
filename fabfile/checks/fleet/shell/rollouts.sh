# Each rollout that never ended, and of each of $services the newest one that did; the long lists of
# a plan are left at home. $root, $services; is_known and is_ended come from remote/shell.
head_of() {
    newest=
    for plan in "$1"/plan-????.json; do [ -s "$plan" ] && newest=$plan; done
    [ -z "$newest" ] || sed 's/"baseline": \[.*\], "batches"/"batches"/; s/"targets": \[.*\], "version"/"version"/' "$newest"
}
say state
if [ ! -d "$root" ]; then
    echo missing
elif [ ! -r "$root" ] || [ ! -x "$root" ] || { [ -e "$root/rollouts" ] && [ ! -r "$root/rollouts" ]; }; then
    echo "not readable for $(id -un)"
fi
wanted=" ${services:+$services }"
for folder in $(ls -1dr "$root"/rollouts/*/ 2>/dev/null); do
    folder=${folder%/}
    is_known "$folder" || continue
    if ! is_ended "$folder"; then
        say "unfinished ${folder##*/}"
        head_of "$folder"
        echo
        ls "$folder/undo" 2>/dev/null
    elif [ "$wanted" != " " ]; then
        of=$(cat "$folder/finished.json" "$folder"/plan-????.json 2>/dev/null |
            grep -o '"service": "[^"]*"' | head -n 1)
        of=${of#*: \"}
        of=${of%\"}
        case $wanted in *" $of "*) ;; *) continue ;; esac
        # One that never began says nothing about what runs, nor does a restart.
        grep -q -e '"verdict": "not begun"' -e '"restart": true' "$folder/finished.json" && continue
        say "finished ${folder##*/}"
        head_of "$folder"
        echo
        # What became of each instance is long, and seen better on the instances.
        sed 's/"fates": {[^{}]*}, //' "$folder/finished.json"
        wanted=$(echo "$wanted" | sed "s/ $of / /")
    fi
done
