# What was written ahead in the rollout's folder $at counts from now: $names. ek_unopen takes it back.
ek_opened=
eval "set -- $names"
for ek_name; do
    if [ -e "$at/ahead/$ek_name.json" ]; then
        mv -f "$at/ahead/$ek_name.json" "$at/undo/$ek_name.json" || exit 71
        ek_opened="$ek_opened $ek_name"
    elif [ ! -e "$at/undo/$ek_name.json" ]; then
        echo "evenkeel: $at/ahead/$ek_name.json is gone: what is not recorded is not touched" >&2
        exit 71
    fi
done
[ -z "$ek_opened" ] || sync "$at/undo" "$at/ahead" || exit 71
ek_unopen() {
    for ek_name in $ek_opened; do mv -f "$at/undo/$ek_name.json" "$at/ahead/$ek_name.json"; done
}
