"""``metrics`` and ``notify`` of hosts.yaml: who hears of a rollout."""

from __future__ import annotations

from fabfile.inventory import fields, model, schema
from fabfile.inventory.mistakes import Mistakes, Path

SOURCES = ("url", "env", "file", "command")


def metrics(
    own: schema.MetricsEdge | None, default: schema.MetricsEdge | None, path: Path, wrong: Mistakes
) -> model.Metrics:
    """What the service says, and the defaults under it, key by key."""
    merged = schema.MetricsEdge(**{**(default or {}), **(own or {})})
    push = merged.get("pushgateway")
    where = path if own and "pushgateway" in own else ("defaults",)
    return model.Metrics(
        merged.get("textfile"),
        None if push is None else _url(push, (*where, "metrics", "pushgateway"), wrong),
    )


def notify(
    own: list[schema.WebhookEdge] | None,
    default: list[schema.WebhookEdge] | None,
    path: Path,
    wrong: Mistakes,
) -> tuple[model.Webhook, ...]:
    """The service's list, where it has one, else that of the defaults."""
    where, edges = (path, own) if own is not None else (("defaults",), default or [])
    return tuple(_webhook(edge, (*where, "notify", n), wrong) for n, edge in enumerate(edges))


def _webhook(edge: schema.WebhookEdge, path: Path, wrong: Mistakes) -> model.Webhook:
    plain = model.Webhook(_url(edge, path, wrong))
    if edge.get("on") == []:
        wrong.add((*path, "on"), "names no moment: started, finished, failed")
    return model.Webhook(plain.url, edge.get("kind", plain.kind), tuple(edge.get("on", plain.on)))


def _url(edge: schema.UrlEdge, path: Path, wrong: Mistakes) -> model.Secret:
    # A source that was wrong is no longer in the block, but still in the file.
    given = [key for key in SOURCES if key in edge or (*path, key) in wrong.places]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        wrong.add(path, f"a URL has one source: url, env, file or command (found {found})")
    if "url" in edge:
        try:
            fields.ascii_url(edge["url"])
        except ValueError as error:
            wrong.add(path, f"{error} (it may be a secret, so it is not repeated here)")
    name = "metrics.pushgateway" if path[-1] == "pushgateway" else f"notify[{path[-1]}]"
    return model.Secret(
        name, edge.get("env"), edge.get("file"), edge.get("command"), edge.get("url")
    )
