# The certificates that HAProxy holds, by its own word; after ek_poll, in the same shell.
printf '@evenkeel certs\n'
ek_list=$(ek_ask "$EK_SOCKET" 'show ssl cert') || ek_list=
ek_line=$(printf '%s\n' "$ek_list" | head -n 100 | while IFS= read -r ek_name; do
    case $ek_name in
    /*[!A-Za-z0-9_./@+-]* | [!/]* | '') ;;
    *) printf 'show ssl cert %s;' "$ek_name" ;;
    esac
done)
[ -z "$ek_line" ] || ek_ask "$EK_SOCKET" "${ek_line%;}"
