# The newest rollouts of this host, the newest first: how each ended, and its records of instances;
# the plan of one that has not ended, or whose end was written by an older Evenkeel. $root, $most.
# No program is started for each of them: after some fifty rollouts that took a second.
show() {
    awk 'BEGIN {
        for (i = 1; i < ARGC; i += 2) {
            print ARGV[i]
            while ((getline line < ARGV[i + 1]) > 0) print line
            close(ARGV[i + 1])
            print ""
        }
    }' "$@"
}
newest_plan() {
    newest=
    for plan in "$1"/plan-????.json; do [ -s "$plan" ] && newest=$plan; done
}
between='
'
older=$between$(grep -L '"service"' "$root"/rollouts/*/finished.json 2>/dev/null)$between
ls -1dr "$root"/rollouts/*/ 2>/dev/null | head -n "$most" | {
    set --
    while IFS= read -r folder; do
        folder=${folder%/}
        is_known "$folder" || continue
        newest=
        if is_ended "$folder"; then
            set -- "$@" "== ended ${folder##*/}" "$folder/finished.json"
            case $older in *"$between$folder/finished.json$between"*) newest_plan "$folder" ;; esac
        else
            set -- "$@" "== open ${folder##*/}" /dev/null
            newest_plan "$folder"
        fi
        if [ -n "$newest" ]; then
            name=${newest##*/}
            set -- "$@" "== plan ${name%.json}" "$newest"
        fi
        for record in "$folder"/done/instance.*.json; do
            [ -e "$record" ] || continue
            name=${record##*/}
            set -- "$@" "== done ${name%.json}" "$record"
        done
        # The longer a list is, the longer it takes to add to it.
        [ $# -lt 400 ] || { show "$@"; set --; }
    done
    [ $# -eq 0 ] || show "$@"
}
true
