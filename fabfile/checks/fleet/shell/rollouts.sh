# Each rollout that never ended, and of each of $services the newest one that did. What is as long as
# the fleet is left at home: with hundreds of hosts it would be read and carried hundreds of times.
# $root, $services, $own (this host's name, as sed wants it); is_known, is_ended and whose come from
# remote/shell.
head_of() {
    newest=
    for plan in "$1"/plan-????.json; do [ -s "$plan" ] && newest=$plan; done
    [ -z "$newest" ] || sed 's/"baseline": \[.*\], "batches"/"batches"/; s/"targets": \[.*\], "version"/"version"/' "$newest"
}
service_of() { cat "$@" 2>/dev/null | grep -o '"service": "[^"]*"' | head -n 1; }
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
        whose "$folder/ahead" ahead-of
        whose "$folder/undo" undo-of
    elif [ "$wanted" != " " ]; then
        of=$(service_of "$folder/finished.json") older=
        # Of an older Evenkeel, which left it to the plan.
        [ -n "$of" ] || { older=1 of=$(service_of "$folder"/plan-????.json); }
        of=${of#*: \"}
        of=${of%\"}
        case $wanted in *" $of "*) ;; *) continue ;; esac
        # One that never began says nothing about what runs, nor does a restart.
        grep -q -e '"verdict": "not begun"' -e '"restart": true' "$folder/finished.json" && continue
        say "finished ${folder##*/}"
        [ -z "$older" ] || head_of "$folder"
        echo
        # What became of each instance is seen better on the instances; of the hosts this one counts.
        sed -e 's/"fates": {[^{}]*}, //' \
            -e 's/\("hosts": \[\)[^]]*\("'"$own"'"\)[^]]*/\1\2/' \
            -e 's/\("hosts": \[\)[^]]*,[^]]*/\1/' "$folder/finished.json"
        wanted=$(echo "$wanted" | sed "s/ $of / /")
    fi
done
