"""What ``inv`` runs: the tasks that run here."""

from invoke import Collection

from fabfile.checks.tasks import healthcheck
from fabfile.lab.tasks import ns as lab

ns = Collection(healthcheck)
ns.add_collection(lab)
