"""Upgrade the application: `pyinfra inventory.py deploy.py --serial --data version=0.0.2`."""

from pyinfra import host, inventory
from pyinfra.operations import python, server

LEAVE = """
server=challenge/{server} socket=/run/haproxy/admin.sock
echo "set weight $server 0" | socat stdio $socket
for _ in $(seq 600); do
    left=$(echo "show stat challenge 4 -1" | socat stdio $socket \
        | awk -F, -v s="${{server#*/}}" '$2 == s {{ print $3 + $5 }}')
    [ "$left" = 0 ] && exit 0
    sleep 0.05
done
exit 1
"""
RENEW = """
set -e
cd /srv/bench
sed -i "s/^APP_{number}_VERSION=.*/APP_{number}_VERSION={version}/" .env
docker compose up -d --no-deps app_{number}
for _ in $(seq 600); do
    curl -sf -m 1 -o /dev/null http://127.0.0.1:300{number}/ping && exit 0
    sleep 0.05
done
exit 1
"""
RETURN = """
server=challenge/{server} socket=/run/haproxy/admin.sock
echo "set weight $server 100%" | socat stdio $socket
for _ in $(seq 600); do
    echo "show stat challenge 4 -1" | socat stdio $socket \
        | awk -F, -v s="${{server#*/}}" '$2 == s && $18 == "UP" {{ ok = 1 }} END {{ exit !ok }}' \
        && exit 0
    sleep 0.05
done
exit 1
"""


def on_balancers(script):
    """Run ``script`` on every balancer of this host; pyinfra has no delegate_to."""
    names = host.data.get("balancers") or [host.name]
    for name in names:
        ok, output = inventory.get_host(name).run_shell_command(script)
        if not ok:
            raise RuntimeError(f"{name}: {output.stdout} {output.stderr}")


if "web" in host.groups:
    for number in (1, 2, 3):
        words = {
            "number": number,
            "server": f"{host.name}_app_{number}",
            "version": host.data.version,
        }
        python.call(name=f"app_{number} out", function=on_balancers, script=LEAVE.format(**words))
        server.shell(name=f"app_{number} anew", commands=[RENEW.format(**words)])
        python.call(name=f"app_{number} back", function=on_balancers, script=RETURN.format(**words))
