# What is known of a rollout's folder ($1). A plan or an open record makes it one of ours; it is
# ended when finished.json says so, and a finished.json that is damaged does not say so while
# anything is left to be put back.
is_known() {
    for one in "$1"/plan-????.json "$1"/undo/*.json "$1"/finished.json; do
        [ ! -e "$one" ] || return 0
    done
    false
}
is_whole() {
    case $(tr -d '[:space:]' <"$1" 2>/dev/null) in '{'*'}') ;; *) false ;; esac
}
is_ended() {
    [ -e "$1/finished.json" ] || return 1
    for one in "$1"/undo/*.json; do
        [ ! -e "$one" ] || { is_whole "$1/finished.json"; return; }
    done
}
# "$2 INSTANCE" for each server that has a record in the folder $1. A record may end without a newline.
whose() {
    sed -n 's/.*"instance": "\([^"]*\)".*/'"$2"' \1/p' "$1"/server.*.json 2>/dev/null
    echo
}
