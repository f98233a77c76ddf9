"""What several services, or several balancers of one, must not share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fabfile.inventory.mistakes import Mistakes
from fabfile.inventory.model import Balancer, Instance, Service


def check_collisions(services: Mapping[str, Service], mistakes: Mistakes) -> None:
    """Report ports, compose projects, backends and server names that two would use."""
    _check_ports(services, mistakes)
    _check_projects(services, mistakes)
    _check_backends(services, mistakes)
    _check_servers(services, mistakes)


def _check_ports(services: Mapping[str, Service], mistakes: Mistakes) -> None:
    taken: dict[tuple[str, int], str] = {}
    told: set[tuple[str, str]] = set()
    for name, service in services.items():
        for host in service.hosts if service.publish is not None else ():
            for instance in service.instances_on(host):
                other = taken.setdefault((host, instance.port), name)
                if other != name and (name, other) not in told:
                    told.add((name, other))
                    mistakes.add(
                        ("services", name, "publish"),
                        f"port {instance.port} of {host} belongs to an instance of {other} already",
                    )


def _check_projects(services: Mapping[str, Service], mistakes: Mistakes) -> None:
    taken: dict[tuple[str, str], str] = {}
    for name, service in services.items():
        for host in service.hosts:
            other = taken.setdefault((host, service.project), name)
            if other != name:
                mistakes.add(
                    ("services", name, "project_dir"),
                    f"{other} has the compose project {service.project} on {host} already",
                )
                break


def _check_backends(services: Mapping[str, Service], mistakes: Mistakes) -> None:
    for name, service in services.items():
        taken: dict[tuple[str, str], int] = {}
        for index, spec in enumerate(service.balancers):
            hosts = service.hosts if spec.hosts == "self" else spec.hosts
            for host in hosts:
                if taken.setdefault((host, spec.backend), index) != index:
                    mistakes.add(
                        ("services", name, "balancers", index),
                        f"backend {spec.backend} on {host} is listed already",
                    )
                    break


def _check_servers(services: Mapping[str, Service], mistakes: Mistakes) -> None:
    """Services may share a backend, but not a server of it."""
    taken: dict[tuple[object, ...], str] = {}
    for name, service in services.items():
        for index, balancer, instance in _servers(service):
            spec = balancer.spec
            server = service.server_name(spec, instance)
            key = (balancer.host, spec.container, spec.socket, spec.backend, server)
            other = taken.setdefault(key, name)
            if other != name:
                mistakes.add(
                    ("services", name, "balancers", index, "server"),
                    f"{server} of backend {spec.backend} on {balancer.host} belongs to {other}",
                )
                break


def _servers(service: Service) -> Iterator[tuple[int, Balancer, Instance]]:
    for host in service.hosts:
        for balancer in service.balancers_of(host):
            index = next(i for i, spec in enumerate(service.balancers) if spec is balancer.spec)
            for instance in service.instances_on(host):
                yield index, balancer, instance
