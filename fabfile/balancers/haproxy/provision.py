"""Putting a rendered configuration in place: validated first, reloaded without a lost request."""

from __future__ import annotations

import posixpath
from typing import Literal

from fabfile.balancers.haproxy.configured import ports
from fabfile.balancers.haproxy.parse import checked_path
from fabfile.balancers.haproxy.shell import PRELUDE, Paths, on_balancer
from fabfile.errors import BadInput
from fabfile.inventory.model import BalancerSpec
from fabfile.remote.base import Command
from fabfile.remote.quoting import q

Outcome = Literal["unchanged", "created", "reloaded"]


def provision_script(
    spec: BalancerSpec, config_text: str, *, drop: bool = False, timeout: float = 120.0
) -> Command:
    """One command that makes ``config_text`` the running configuration of ``spec``.

    Prints ``unchanged``, ``created`` or ``reloaded`` (:func:`outcome`). Exit 98: HAProxy found
    the configuration wrong, or it lacks a backend that the file there has (``drop``:
    that is meant); the message is on stderr and nothing changed. Exit 99: it would not start or
    reload; the old file is back. Other codes are those of :mod:`shell`.

    The new file is written beside the old one and renamed, so a container must have the
    *folder* mounted: a mount of the file alone would keep the old one. A marker beside it
    survives a controller that dies between renaming and reloading, so that the next call does
    not take the file for loaded.
    """
    paths = Paths.of(spec)
    config = checked_path(spec.config)
    script = "\n".join(
        [
            PRELUDE.strip(),
            _settings(spec, paths, config, drop=drop),
            _FILE.strip(),
            (_container(spec, paths) if paths.container else _ON_HOST).strip(),
            _talking(spec, config_text),
            _MAIN.strip(),
        ]
    )
    return Command(script, stdin=config_text.encode(), timeout=timeout, label=f"provision {config}")


def outcome(stdout: str) -> Outcome | None:
    """What the command said it did; ``None`` when it did not come that far."""
    words: tuple[Outcome, ...] = ("unchanged", "created", "reloaded")
    said = stdout.strip().splitlines()[-1:]
    return next((word for word in words if said == [word]), None)


def _settings(spec: BalancerSpec, paths: Paths, config: str, *, drop: bool) -> str:
    return "\n".join(
        [
            f"config={q(config)}",
            f"container={q(paths.container)}",
            f"image={q(spec.image or '')}",
            f"drop={'1' if drop else ''}",
            "new=$config.evenkeel-new old=$config.evenkeel-old pending=$config.evenkeel-pending",
            "missing=",
        ]
    )


_FILE = """
cat >"$new" || ek_die 98 "can't write $new"
chmod 644 "$new"
say_wrong() { rm -f "$new"; printf '%s\\n' "$1" >&2; ek_die 98 "HAProxy refuses the new $config; \\
nothing was changed"; }
# What people reach through a file that somebody else wrote must not vanish with it.
proxies() { awk '$1 ~ /^(backend|listen)$/ { print $1, $2 }' "$1" | sort -u; }
lost() { [ ! -f "$config" ] || { proxies "$new" >"$new.names"; proxies "$config" |
    grep -Fvx -f "$new.names" | paste -sd, - | sed 's/,/, /g'; rm -f "$new.names"; }; }
put_back() {
    [ -n "$was_running" ] || undo_create
    if [ -f "$old" ]; then mv -f "$old" "$config"; else rm -f "$config"; fi
    [ -z "$was_running" ] || save
    rm -f "$pending"
    [ -z "$1" ] || printf '%s\\n' "$1" >&2
    ek_die 99 "$2; the old $config is back"
}
"""

_ON_HOST = """
running() { systemctl is-active -q haproxy 2>/dev/null || pidof haproxy >/dev/null 2>&1; }
valid() { haproxy -c -f "$new" 2>&1; }
create() { systemctl start haproxy 2>&1; }
undo_create() { :; }
logs() { journalctl -u haproxy -n 20 --no-pager 2>/dev/null; }
signal() { systemctl reload haproxy 2>&1; }
"""


def _container(spec: BalancerSpec, paths: Paths) -> str:
    """The container's verbs. Its command line is ours only where we run it (``image``)."""
    folders = {posixpath.dirname(spec.config): "ro", posixpath.dirname(paths.socket): "rw"}
    for path in (paths.master, paths.state_file):
        if path:
            folders.setdefault(posixpath.dirname(path), "rw")
    if "/" in folders:
        raise BadInput(f"{spec.config}, {spec.socket}: their folder is mounted, it can't be /")
    mounts = " ".join(f"-v {q(f'{path}:{path}:{mode}')}" for path, mode in folders.items())
    master = f"-S {q(paths.master + ',mode,666,level,admin')} " if paths.master else ""
    return f"""
command -v docker >/dev/null 2>&1 || ek_die 94 "docker is not installed on this host"
running() {{ [ "$(docker inspect -f '{{{{.State.Running}}}}' "$container" 2>/dev/null)" = true ]; }}
valid() {{
    if running; then docker exec "$container" haproxy -c -f "$new" 2>&1
    else docker run --rm --network host {mounts} "$image" haproxy -c -f "$new" 2>&1; fi
}}
create() {{
    docker rm -f "$container" >/dev/null 2>&1
    docker run -d --name "$container" --network host --restart unless-stopped {mounts} \\
        "$image" haproxy -W -db {master}-f "$config" 2>&1
}}
undo_create() {{ docker rm -f "$container" >/dev/null 2>&1; }}
logs() {{ docker logs --tail 20 "$container" 2>&1; }}
signal() {{ docker kill -s USR2 "$container" 2>&1; }}
if [ -z "$image" ] && ! running; then
    rm -f "$new"
    ek_die 94 "container $container is not running, and hosts.yaml names no image to run it from"
fi
"""


def _talking(spec: BalancerSpec, config_text: str) -> str:
    """Shell functions that talk to the running HAProxy, wherever its sockets are."""
    pid = on_balancer(spec, _PID)
    save = on_balancer(spec, "ek_save")
    given = " ".join(f"{name}={port}" for name, port in ports(config_text).items())
    save_for_new = on_balancer(spec, f'ek_save\n[ -z "$EK_STATE" ] || {{\n{_port(given)}\n}}')
    reload = on_balancer(spec, 'ek_ask "$EK_MASTER" reload') if spec.master_socket else ""
    return f"""
worker() {{ sh -c {q(pid)}; }}
save() {{ sh -c {q(save)}; }}
save_for_new() {{ sh -c {q(save_for_new)}; }}
master_reload() {{ {f"sh -c {q(reload)}" if reload else "return 1"}; }}
"""


def _port(given: str) -> str:
    """Rewrite the ports in the server-state file to those of the new configuration.

    HAProxy takes the port of the state file over the one it is configured with: after a change
    of ``publish`` it would go on sending requests to the old one.
    """
    return f"""
awk -v given={q(given)} '{_AWK}' "$EK_STATE" >"$EK_STATE.new" &&
    mv -f "$EK_STATE.new" "$EK_STATE" || ek_die 97 "can't write $EK_STATE"
"""


_AWK = """
BEGIN { n = split(given, part, " "); for (i = 1; i <= n; i++) { split(part[i], kv, "=");
    port[kv[1]] = kv[2] } }
$1 == "#" { for (i = 2; i <= NF; i++) column[$i] = i - 1 }
$1 != "#" && NF > 2 && ($column["be_name"] "/" $column["srv_name"]) in port {
    $column["srv_port"] = port[$column["be_name"] "/" $column["srv_name"]] }
{ print }
"""

_PID = """
ek_info=$(ek_ask "$EK_SOCKET" 'show info') || exit $?
printf '%s\\n' "$ek_info" | sed -n 's/^Pid: //p'
"""

# A socket that nobody answers at (93) is left by a HAProxy that died: it is started, not
# reloaded. Without a socket (91) somebody else's HAProxy may be running: hands off.
_MAIN = """
if cmp -s "$new" "$config" && [ ! -e "$pending" ] && running; then
    rm -f "$new"; echo unchanged; exit 0
fi
said=$(valid) || say_wrong "$said"
[ -n "$drop" ] || missing=$(lost)
[ -z "$missing" ] || { rm -f "$new"; ek_die 98 "$config has $missing, and the new one has not: \\
fab provision.balancers --drop takes that away; nothing was changed"; }
was_running= before=
if running; then
    was_running=1
    before=$(worker) || {
        ek_code=$?
        [ "$ek_code" = 93 ] && [ -n "$image" ] || { rm -f "$new"; exit "$ek_code"; }
        was_running=
    }
fi
rm -f "$old"
[ ! -f "$config" ] || cp -p "$config" "$old" || ek_die 98 "can't write $old"
: >"$pending" && mv -f "$new" "$config" || ek_die 98 "can't write $config"
if [ -n "$was_running" ]; then
    save_for_new || put_back "" "the server states could not be saved before the reload"
    said=$(master_reload)
    case "$said" in
    *Success=1*) ;;
    *Success=0*) put_back "$said" "HAProxy could not reload" ;;
    *) said=$(signal) || put_back "$said" "HAProxy could not be told to reload" ;;
    esac
else
    said=$(create) || put_back "$said" "HAProxy did not start"
fi
ek_tries=0
# A container that dies under `docker exec` makes that say so on stdout: only a number is a worker.
while now=$(worker 2>/dev/null | grep -x '[0-9][0-9]*'); [ -z "$now" ] || [ "$now" = "$before" ]; do
    ek_tries=$((ek_tries + 1))
    [ "$ek_tries" -lt 100 ] || put_back "$(logs)" "HAProxy did not come up with it within 10 s"
    sleep 0.1
done
rm -f "$pending" "$old"
[ -n "$was_running" ] && echo reloaded || echo created
"""
