"""What ``inv`` runs: the tasks that run here."""

from invoke import Collection

from fabfile.checks.tasks import healthcheck
from fabfile.drivers.simulated.tasks import simulate
from fabfile.lab.tasks import ns as lab
from fabfile.reports.tasks import report

ns = Collection(healthcheck, report, simulate)
ns.add_collection(lab)
