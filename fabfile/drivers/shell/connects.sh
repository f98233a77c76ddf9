# Can a connection be made to any of $spots (host:port …) within $wait seconds each, side by side?
# Prints "open" or "closed"; anything else: this host could not try. curl counts a connection that
# was made in time_connect, whatever became of it afterwards.
command -v curl >/dev/null 2>&1 || { echo "curl is not installed"; exit 1; }
try() {
    made=$(curl -q -s -g -o /dev/null --noproxy '*' --connect-timeout "$wait" -m "$((wait + 1))" \
        -w '%{time_connect}' "http://$1/")
    code=$?
    case $made in
        *[1-9]*) echo open; return ;;
    esac
    case $code in
        7 | 28) echo closed ;;
        *) echo "curl exits $code" ;;
    esac
}
seen=$(
    for spot in $spots; do
        try "$spot" &
    done
    wait
)
case $seen in
    *open*) echo open ;;
    *curl*) echo "$seen" | grep curl ;;
    *) echo closed ;;
esac
