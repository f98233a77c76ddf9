"""What ``inv`` runs: the tasks that run here."""

from invoke import Collection

from fabfile.lab.tasks import ns as lab

ns = Collection(lab)
