# Each rollout that never ended, and of each of $services the newest one that did; the long lists of
# a plan are left at home. $root, $services.
head_of() {
    for plan in "$1"/plan-????.json; do [ -s "$plan" ] && newest=$plan; done
    sed 's/"baseline": \[.*\], "batches"/"batches"/; s/"targets": \[.*\], "version"/"version"/' "$newest"
}
say state
if [ ! -d "$root" ]; then
    echo missing
elif [ ! -r "$root/rollouts" ] && [ -e "$root/rollouts" ]; then
    echo "not readable for $(id -un)"
fi
wanted=" ${services:+$services }"
for folder in $(ls -1dr "$root"/rollouts/*/ 2>/dev/null); do
    folder=${folder%/}
    [ -e "$folder/plan-0001.json" ] || continue
    if [ ! -e "$folder/finished.json" ]; then
        say "unfinished ${folder##*/}"
        head_of "$folder"
        echo
        ls "$folder/undo"
    elif [ "$wanted" != " " ]; then
        of=$(grep -o '"service": "[^"]*"' "$folder/plan-0001.json" | head -n 1)
        of=${of#*: \"}
        of=${of%\"}
        case $wanted in *" $of "*) ;; *) continue ;; esac
        # One that never began says nothing about what runs.
        grep -q '"verdict": "not begun"' "$folder/finished.json" && continue
        say "finished ${folder##*/}"
        head_of "$folder"
        echo
        cat "$folder/finished.json"
        wanted=$(echo "$wanted" | sed "s/ $of / /")
    fi
done
