"""How a script on the balancer's host reaches HAProxy's sockets, and what its exit codes mean.

The socket is used from the host where it lies there, is writable and ``socat`` is installed;
else the same script runs inside the container. It is decided by the script itself, so that
asking takes one round trip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fabfile.balancers.haproxy.parse import HaproxyError, checked_name, checked_path
from fabfile.inventory.model import BalancerSpec
from fabfile.remote.base import Result
from fabfile.remote.quoting import q

UnusableKind = Literal[
    "no-socat",
    "no-socket",
    "permission",
    "not-running",
    "container",
    "changed",
    "refused",
    "state-file",
    "config",
    "reload",
]

CHANGED = 95
"""A server is not as somebody left it: nothing was sent."""
EXIT_CODES: dict[int, UnusableKind] = {
    90: "no-socat",
    91: "no-socket",
    92: "permission",
    93: "not-running",
    94: "container",
    CHANGED: "changed",
    96: "refused",
    97: "state-file",
    98: "config",
    99: "reload",
}
"""Exit codes of our scripts. Far from those of sh, timeout (124, 137), docker (125 to 127) and
the fence (75)."""


class Unusable(HaproxyError):
    """HAProxy could not be asked, or a step of our own around it failed."""

    def __init__(self, message: str, kind: UnusableKind, *, detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.kind = kind


def problem(balancer: str, result: Result) -> Unusable | None:
    """What ``result``'s exit code says about a script of this package.

    ``None``: it ended well, or with a code that is none of ours (unknown outcome, deadline,
    fence): those belong to whoever runs commands.
    """
    kind = EXIT_CODES.get(result.exit_code or 0)
    if kind is None:
        return None
    return Unusable(f"{balancer}: {said(result.stderr)}", kind, detail=result.tail())


def said(stderr: str) -> str:
    """Our own line out of a script's stderr, or its last line where there is none."""
    lines = [line for line in stderr.strip().splitlines() if line.strip()]
    ours = [line.removeprefix("evenkeel: ") for line in lines if line.startswith("evenkeel: ")]
    return (ours or lines or ["no message"])[-1]


@dataclass(frozen=True)
class Paths:
    """The paths and the container of a balancer, checked to be harmless in a script."""

    socket: str
    master: str
    state_file: str
    container: str

    @classmethod
    def of(cls, spec: BalancerSpec) -> Paths:
        """Raises :class:`fabfile.errors.BadInput` for a path or name that can't be right."""
        return cls(
            checked_path(spec.socket),
            checked_path(spec.master_socket) if spec.master_socket else "",
            checked_path(spec.state_file) if spec.state_file else "",
            checked_name(spec.container) if spec.container else "",
        )


_ONLY = r"""
    /^# pxname,/ { csv = 1 }
    /^# be_id / { states = 1 }
    !NF { csv = states = 0 }
    csv && !/^[#@]/ {
        if (!index(want, " " $1 " ")) next
        if (only && $2 != "BACKEND" && !index(only, " " $2 " ")) next
    }
    states && only && !/^#/ {
        split($0, field, " ")
        if (!index(only, " " field[4] " ")) next
    }
    { print }"""
"""awk: of a poll's tables the lines of the backends ``want`` and, unless it is empty, of ``only``.
What a backend of a thousand servers says is too much to be carried and read for one of them."""

PRELUDE = r"""
EK_PRINT='@ONLY@'
set -f
umask 022
ek_die() { ek_code=$1; shift; printf 'evenkeel: %s\n' "$*" >&2; exit "$ek_code"; }
ek_ready() {
    command -v socat >/dev/null 2>&1 || ek_die 90 "socat is not installed$EK_PLACE"
    if [ ! -S "$1" ]; then
        ek_dir=${1%/*}
        if [ -d "$ek_dir" ] && [ ! -x "$ek_dir" ]; then
            ek_die 92 "permission denied: $ek_dir is closed to $(id -un)"
        fi
        ek_die 91 "no HAProxy socket at $1$EK_PLACE"
    fi
    [ -w "$1" ] || ek_die 92 "permission denied: $(id -un) can't write to $1"
}
ek_ask() {
    ek_ready "$1"
    printf '%s\n' "$2" | socat -t 10 - "UNIX-CONNECT:$1" ||
        ek_die 93 "nobody answers at $1: is HAProxy running?"
}
ek_procs() {
    ek_proc= ek_pids=
    [ -n "$EK_MASTER" ] || return 0
    ek_proc=$(ek_ask "$EK_MASTER" 'show proc') || exit $?
    case "$ek_proc" in
    *'# old'*) ;;
    *) return 0 ;; # as nearly always: nothing to look through
    esac
    ek_pids=$(printf '%s\n' "$ek_proc" | {
        ek_in=
        while read -r ek_a ek_b ek_c; do
            case "$ek_a $ek_b" in
            '# old') ek_in=1 ;;
            '# '*) ek_in= ;;
            [0-9]*' worker') [ -z "$ek_in" ] || printf '%s\n' "$ek_a" ;;
            esac
        done
    })
}
ek_wanted() {
    # Backends, and "=NAME" for each server that alone is meant.
    ek_backends= EK_ONLY=
    for ek_b in "$@"; do
        case $ek_b in
        =*) EK_ONLY="$EK_ONLY ${ek_b#=}" ;;
        *) ek_backends="$ek_backends $ek_b" ;;
        esac
    done
    [ -z "$EK_ONLY" ] || EK_ONLY="$EK_ONLY "
}
ek_questions() {
    ek_line='show cli level;show info;show stat -1 6 -1'
    for ek_b in "$@"; do ek_line="$ek_line;show servers state $ek_b"; done
}
ek_poll() {
    ek_wanted "$@"
    set -- $ek_backends
    ek_questions "$@"
    ek_got=$(ek_ask "$EK_SOCKET" "$ek_line") || exit $?
    printf '@evenkeel runtime\n%s\n' "$ek_got" | ek_only "$@"
    ek_rest "$@"
}
ek_rest() {
    ek_procs
    [ -z "$EK_MASTER" ] || printf '@evenkeel proc\n%s\n' "$ek_proc"
    for ek_pid in $ek_pids; do
        ek_got=$(ek_each_old "$ek_pid" '@!PID show stat -1 6 -1') || exit $?
        printf '@evenkeel old %s\n%s\n' "$ek_pid" "$ek_got" | ek_only "$@"
    done
    printf '@evenkeel end\n'
}
ek_guard() {
    ek_got=$(ek_ask "$EK_SOCKET" "show servers state $1") || exit $?
    printf '%s\n' "$ek_got" | awk -v want="$2" '
        $1 == "#" { for (i = 2; i <= NF; i++) at[$i] = i - 1 }
        at["srv_name"] && $1 != "#" && NF > 2 {
            bits = $at["srv_admin_state"]
            ordered = int(bits / 8) % 2 ? "drain" : "ready"
            if (bits % 2 || int(bits / 4) % 2) ordered = "maint"
            seen[$at["srv_name"] "=" ordered "=" $at["srv_uweight"]] = 1
        }
        END {
            for (n = split(want, all, " "); n > 0; n--) if (!(all[n] in seen)) exit 1
        }' || ek_die 95 "a server of $1 is not as it was left"
}
ek_only() {
    awk -F, -v want=" $* " -v only="$EK_ONLY" "$EK_PRINT"
}
ek_each_old() {
    ek_ask "$EK_MASTER" "$(printf '%s\n' "$2" | sed "s/@!PID/@!$1/g")" || exit $?
}
ek_save() {
    [ -n "$EK_STATE" ] || return 0
    {
        ek_lock_state
        ek_state=$(ek_ask "$EK_SOCKET" 'show servers state') || exit $?
        case "$ek_state" in
        1*'# be_id '*) ;;
        *) ek_die 97 "show servers state answered: $ek_state" ;;
        esac
        { printf '%s\n\n' "$ek_state" >"$EK_STATE.new" && mv -f "$EK_STATE.new" "$EK_STATE"; } ||
            ek_die 97 "can't write the server-state file $EK_STATE"
    } 9>>"$EK_STATE.lock" || ek_die 97 "can't write beside the server-state file $EK_STATE"
}
ek_save_poll() {
    # As ek_save and ek_poll, by one question; leaves in $ek_saved how saving ended.
    ek_saved=0
    [ -n "$EK_STATE" ] || { ek_poll "$@"; return; }
    ek_wanted "$@"
    ek_questions $ek_backends
    (
        {
            ek_lock_state
            ek_got=$(ek_ask "$EK_SOCKET" "show servers state;$ek_line") || exit $?
            printf '@evenkeel runtime\n'
            printf '%s\n' "$ek_got" |
                awk -F, -v want="$ek_backends " -v only="$EK_ONLY" -v file="$EK_STATE.new" '
                !past { print >file; if (!NF) past = 1; next }'"$EK_PRINT" || exit 97
            { IFS= read -r ek_a && IFS= read -r ek_b; } <"$EK_STATE.new"
            case "$ek_a $ek_b" in
            '1 # be_id '*) ;;
            *) ek_die 97 "show servers state answered: $ek_a" ;;
            esac
            mv -f "$EK_STATE.new" "$EK_STATE" || exit 97
        } 9>>"$EK_STATE.lock"
    ) || ek_saved=$?
    case $ek_saved in
    0) ek_rest $ek_backends; return ;;
    1 | 2) ek_saved=97 ;;
    esac
    [ $ek_saved -ne 97 ] || echo "evenkeel: can't write the server-state file $EK_STATE" >&2
    ek_poll "$@"
}
ek_lock_state() {
    if command -v flock >/dev/null 2>&1; then
        flock -w 5 9 || ek_die 97 "$EK_STATE is locked by another command"
    fi
}
"""

PRELUDE = PRELUDE.replace("@ONLY@", _ONLY)


def on_balancer(spec: BalancerSpec, body: str, *, stdin: bool = False) -> str:
    """A script that runs ``body`` (which may use the ``ek_`` functions) where the socket is.

    ``stdin``: the body reads the script's standard input.
    """
    paths = Paths.of(spec)
    where = f" in container {paths.container}" if paths.container else " on this host"
    program = "\n".join(
        [
            f"EK_SOCKET={q(paths.socket)}",
            f"EK_MASTER={q(paths.master)}",
            f"EK_STATE={q(paths.state_file)}",
            f"EK_PLACE={q(where)}",
            PRELUDE.strip(),
            body.strip(),
        ]
    )
    if not paths.container:
        return program + "\n"
    source = "" if stdin else " </dev/null"
    return f"""\
ek_program={q(program)}
if [ -S {q(paths.socket)} ] && [ -w {q(paths.socket)} ] && command -v socat >/dev/null 2>&1; then
    eval "$ek_program"
    exit
fi
command -v docker >/dev/null 2>&1 || {{
    echo 'evenkeel: neither a usable {paths.socket} with socat nor docker on this host' >&2
    exit 90; }}
docker exec -i {q(paths.container)} sh -c "$ek_program"{source}
ek_code=$?
case $ek_code in 1|125|126|127)
    ek_run=$(docker inspect -f '{{{{.State.Status}}}}' {q(paths.container)} 2>&1)
    [ "$ek_run" = running ] || {{
        printf 'evenkeel: container {paths.container} is not running: %s\\n' "$ek_run" >&2
        exit 94; }}
esac
exit $ek_code
"""
