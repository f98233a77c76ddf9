"""Kinds of findings about HAProxy."""

from __future__ import annotations

from collections.abc import Mapping

from fabfile.checks.doctor.kinds import H, Kind, P, R

KINDS: Mapping[str, Kind] = {
    "balancer-silent": Kind(
        "balancers",
        P,
        "HAProxy can't be asked: no socket, no `socat`, no permission, or it does not run",
        "`stats socket … level admin expose-fd listeners`",
    ),
    "level": Kind(
        "balancers",
        P,
        "the socket's level is below admin: no server can be drained",
        "`level admin` on its `stats socket` line",
    ),
    "backend-missing": Kind(
        "balancers", P, "HAProxy has no such backend", "`fab provision.balancers`, or the backend"
    ),
    "server-missing": Kind(
        "balancers",
        P,
        "HAProxy has no server of that name",
        "`fab provision.balancers`, or the line",
    ),
    "server-elsewhere": Kind(
        "balancers",
        ("problem", "risk"),
        "a server points at another instance: the wrong one would be drained; risk: at a port that"
        " hosts.yaml does not know",
        "the address and port that the finding names",
    ),
    "config-unread": Kind(
        "balancers",
        R,
        "HAProxy's configuration can't be read: `on-marked-down`, `option persist` and all that"
        " only the file tells are unknown",
        "`config: PATH` in hosts.yaml",
    ),
    "config-edited": Kind(
        "balancers",
        ("hint", "risk"),
        "the file that `fab provision` writes is not what it would write now; risk: somebody"
        " else's backends in it would be gone",
        "`fab provision.balancers`, after taking your edits into the template",
    ),
    "haproxy-old": Kind(
        "balancers", R, "HAProxy is older than 2.6, which nobody tried", "a maintained version"
    ),
    "expose-fd": Kind(
        "balancers",
        ("risk", "hint"),
        "`stats socket` without `expose-fd listeners`: a reload may refuse connections; hint: in"
        " master-worker mode",
        "`expose-fd listeners` on its line",
    ),
    "no-state-file": Kind(
        "balancers",
        R,
        "no `state_file`: a reload in mid-drain puts a server back into rotation",
        "`server-state-file` and `load-server-state-from-file global`, and `state_file` in"
        " hosts.yaml",
    ),
    "state-file-not-loaded": Kind(
        "balancers",
        R,
        "there is a `state_file`, and HAProxy does not read it at a reload",
        "`server-state-file` in `global`, `load-server-state-from-file global` in `defaults`",
    ),
    "no-master-socket": Kind(
        "balancers",
        R,
        "no `master_socket`: what processes of before a reload still serve can't be seen",
        "`haproxy -W -S PATH`, and `master_socket` in hosts.yaml",
    ),
    "hard-stop-after": Kind(
        "balancers",
        ("risk", "hint"),
        "`hard-stop-after` is shorter than `drain.timeout`: a reload cuts what a drain waits for;"
        " hint: there is none, and old processes may stay for ever",
        "`hard-stop-after 10m`",
    ),
    "on-marked-down": Kind(
        "balancers",
        P,
        "`on-marked-down shutdown-sessions`: maintenance cuts running requests",
        "leave it out",
    ),
    "persist": Kind(
        "balancers",
        P,
        "`option persist`: pinned clients are sent to a server in maintenance",
        "leave it out; `option redispatch`",
    ),
    "force-persist": Kind(
        "balancers",
        R,
        "`force-persist` may send pinned clients to a server in maintenance",
        "leave it out",
    ),
    "ignore-persist": Kind(
        "balancers",
        H,
        "`ignore-persist`: requests that match it are not pinned, which helps a drain",
        "nothing, if it is meant",
    ),
    "use-server": Kind(
        "balancers",
        H,
        "`use-server` reaches a server at weight 0 and in drain; only maintenance ends that",
        "nothing, if it is meant",
    ),
    "no-redispatch": Kind(
        "balancers",
        R,
        "no `option redispatch`: pinned clients of a server that dies by itself fail",
        "`option redispatch`",
    ),
    "no-retries": Kind(
        "balancers",
        H,
        "`retries 0`: a connection that a dying server refuses is an error at once",
        "`retries 3`",
    ),
    "retry-on": Kind(
        "balancers",
        R,
        "`retry-on` beyond `conn-failure` sends requests again that may have been carried out",
        "`retry-on conn-failure`",
    ),
    "static-algorithm": Kind(
        "balancers",
        R,
        "a static algorithm accepts no weight but 0 and the configured one",
        "`balance roundrobin`, or `hash-type consistent`",
    ),
    "weight-one": Kind(
        "balancers",
        ("hint", "problem"),
        "servers have weight 1: half of it is 0, so no share of traffic can be given; problem:"
        " the service has a canary strategy",
        "`weight 100`",
    ),
    "agent-check": Kind(
        "balancers", R, "an agent can overwrite weight and state", "`no-agent-check`"
    ),
    "tracker": Kind(
        "balancers",
        R,
        "servers of other backends `track` ours and leave with them, where nobody looks after"
        " capacity",
        "`check` of their own instead of `track`",
    ),
    "backup": Kind(
        "balancers", R, "an instance is a backup server and adds no capacity", "no `backup`"
    ),
    "unchecked": Kind(
        "balancers",
        R,
        "a server without `check`: HAProxy does not notice that it died, and only our probe"
        " admits it",
        "`check` on the line, or on `default-server`",
    ),
    "slow-return": Kind(
        "balancers",
        ("hint", "risk", "problem"),
        "checks are so far apart that an instance takes more than 10 s to come back (risk: 30 s;"
        " problem: 60 s, after which it counts as failed)",
        "`inter 2s fastinter 200ms downinter 500ms rise 2`",
    ),
    "slowstart": Kind(
        "balancers",
        H,
        "`slowstart`: an instance counts as capacity only little by little, so each batch lasts"
        " longer",
        "nothing, if it is meant",
    ),
    "unresolved": Kind(
        "balancers", R, "a server's name does not resolve: it takes no requests", "the name"
    ),
    "resolvers": Kind(
        "balancers",
        ("risk", "hint"),
        "a server has a name that is resolved only when HAProxy starts: a container that is made"
        " anew may have another address; hint: resolved again only after `hold valid`",
        "`resolvers` on the line, or an address that stays",
    ),
}
