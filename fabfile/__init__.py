"""What ``fab`` runs: the tasks that touch hosts."""

from invoke.collection import Collection

from fabfile.commands.doctor import doctor
from fabfile.commands.everyday import drain, enable, exec_, logs, maintenance, ps, servers
from fabfile.commands.locking import lock_acquire, lock_release, lock_status
from fabfile.commands.past import history, show
from fabfile.commands.plain import run, uptime
from fabfile.commands.provisioning import provision_all, provision_app, provision_balancers
from fabfile.commands.recovering import abort, repair, resume
from fabfile.commands.rolling import deploy, plan, restart, rollback

namespace = Collection(deploy, plan, rollback, resume, abort, repair, history, show, uptime, run)
for task in (logs, exec_, ps, servers, drain, enable, restart, maintenance, doctor):
    namespace.add_task(task)
namespace.add_collection(
    Collection("provision", all=provision_all, app=provision_app, balancers=provision_balancers)
)
namespace.add_collection(
    Collection("lock", status=lock_status, acquire=lock_acquire, release=lock_release)
)
