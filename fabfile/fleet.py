"""What plain ``fab`` and ``inv`` need to serve us: fleet tasks, inventory names, exit codes.

A *fleet task* is called once and sees every host of ``-H``; Fabric's own tasks are called for
each host, with a connection made as hosts.yaml says. Nothing heavy is imported here: every
``fab --list`` loads this module.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import ContextDecorator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

from invoke.config import Config
from invoke.context import Context
from invoke.exceptions import Exit, ParseError, UnexpectedExit
from invoke.executor import Executor
from invoke.program import Program
from invoke.tasks import Call, Task, task

from fabfile.errors import BadInput, EvenkeelError

if TYPE_CHECKING:
    from fabfile.remote.doors import Doors

ROOT = Path(__file__).resolve().parent.parent
DEBUG = "EVENKEEL_DEBUG"


# --- Errors and exit codes ------------------------------------------------------------------


def as_exit(error: BaseException) -> Exit | None:
    """How the program ends on ``error``; ``None``: Invoke knows best."""
    if isinstance(error, Exit | UnexpectedExit | ParseError):
        return None
    if isinstance(error, EvenkeelError):
        text, code = "\n".join(filter(None, (str(error), error.detail.rstrip()))), error.exit_code
    elif isinstance(error, KeyboardInterrupt):
        text, code = "interrupted", 130
    elif isinstance(error, Exception):
        first = str(error).strip().partition("\n")[0]
        what = ": ".join(filter(None, (type(error).__name__, first)))
        hint = f"(run again with --debug, or {DEBUG}=1, for the traceback)"
        text, code = f"unexpected: {what} {hint}", 1
    else:
        return None
    if _debugging():
        text = "".join(traceback.format_exception(error)) + text
    return Exit(text, code)


class _ExitOnError(ContextDecorator):
    """Around every task, as ``with exit_on_error:`` or ``@exit_on_error`` below ``@task``.

    An :class:`EvenkeelError` becomes its line and its exit code, anything unexpected one line and
    exit 1; Invoke prints both to stderr.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        end = None if error is None else as_exit(error)
        if end is not None:
            raise end from error


exit_on_error = _ExitOnError()


def _debugging() -> bool:
    # --debug makes Invoke set the root logger to DEBUG.
    on = os.environ.get(DEBUG, "") not in ("", "0")
    return on or logging.getLogger("invoke").isEnabledFor(logging.DEBUG)


def _exit_2_on_parse_errors(method: str) -> None:
    """Make ``Program.method`` end with exit code 2 where the command line cannot be read.

    Invoke's ``Program.run`` has a bare 1 for that and no setting. Tasks are parsed after the task
    module was loaded, so wrapping the two methods that parse is early enough.
    """
    original: Callable[[Program], None] = getattr(Program, method)

    def parse(self: Program) -> None:
        try:
            try:
                original(self)
            finally:
                sys.stdout.flush()  # help is printed by it, too
        except ParseError as error:
            raise Exit(str(error), BadInput.exit_code) from error
        except BrokenPipeError as error:  # whoever read it has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise Exit(code=0) from error

    if original.__module__ != __name__:  # wrapped before, when this module was loaded twice
        setattr(Program, method, parse)


_exit_2_on_parse_errors("parse_tasks")
_exit_2_on_parse_errors("parse_cleanup")  # --help of an unknown task


# --- Fleet tasks ----------------------------------------------------------------------------


class FleetContext(Context):
    """What a fleet task is given: Invoke's context (``run`` runs here) and the hosts of -H."""

    fleet_hosts: tuple[str, ...] = ()
    remainder: str = ""
    """What stood after ``--``; the executor runs it on each host when the tasks are done."""

    def __init__(
        self, config: Config | None = None, hosts: Iterable[str] = (), remainder: str = ""
    ) -> None:
        super().__init__(config)
        self._set(fleet_hosts=tuple(hosts), remainder=remainder)


def hosts_of(context: Context) -> tuple[str, ...]:
    """The names of ``-H`` as typed (hosts or groups), each once; empty without ``-H``."""
    return context.fleet_hosts if isinstance(context, FleetContext) else ()


class FleetTask(Task):  # type: ignore[type-arg]
    """A task that is called once for all hosts; see :func:`hosts_of`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task; errors end the program as :data:`exit_on_error` says."""
        with exit_on_error:
            if args and _is_connection(args[0]):
                raise BadInput(
                    f"{self.name} sees all hosts of -H at once, which fab only allows when it "
                    f"reads {ROOT / 'fabric.yaml'}; it must lie beside the fabfile and say "
                    "tasks: {executor_class: fabfile.fleet.FleetExecutor}"
                )
            return super().__call__(*args, **kwargs)


class RemainderTask(FleetTask):
    """A fleet task that takes what stands after ``--`` for itself; see :func:`remainder_of`."""


@overload
def fleet_task(body: Callable[..., None], /) -> FleetTask: ...
@overload
def fleet_task(**kwargs: Any) -> Callable[[Callable[..., None]], FleetTask]: ...
def fleet_task(*args: Any, **kwargs: Any) -> Any:
    """Like ``@task`` or ``@task(...)``, for a :class:`FleetTask`."""
    return task(*args, **{"klass": FleetTask, **kwargs})


def remainder_of(context: Context) -> str:
    """What stood after ``--``, as one line for a shell; empty without any."""
    return context.remainder if isinstance(context, FleetContext) else ""


def run_remainder(context: Context) -> None:
    """The body of a task for ``fab -H web1,web2 run -- uptime``; the executor does the rest.

    Without any task, ``fab -H web1 -- uptime``, Fabric loads no fabfile and hence nothing of
    ours: the names are then those of ssh_config and DNS. Raises :class:`BadInput` where nothing
    was asked for.
    """
    if not isinstance(context, FleetContext) or not context.remainder:
        raise BadInput("say what to run: fab -H web1,web2 run -- uptime")


def _is_connection(context: object) -> bool:
    # Without importing Fabric, which under inv costs a fifth of a second.
    return any(
        kind.__name__ == "Connection" and kind.__module__.startswith("fabric.")
        for kind in type(context).__mro__
    )


class _FleetCall(Call):
    def __init__(self, *args: Any, hosts: tuple[str, ...], remainder: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fleet_hosts = hosts
        self.remainder = remainder

    def make_context(self, config: Config) -> Context:
        return FleetContext(config, self.fleet_hosts, self.remainder)


class _HostCall(Call):
    def __init__(self, *args: Any, context: Callable[[], Context], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.host_context = context

    def make_context(self, config: Config) -> Context:
        del config  # the connection was built with it
        return self.host_context()


# --- The executor ---------------------------------------------------------------------------


class FleetExecutor(Executor):
    """Runs fleet tasks once and other tasks once for each host, as Fabric's executor does."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._opened: Doors | None = None

    def execute(self, *tasks: Any) -> Any:
        """Run the tasks; errors end the program as :data:`exit_on_error` says."""
        with exit_on_error:
            try:
                return super().execute(*tasks)
            finally:
                if self._opened is not None:
                    self._opened.close()

    def expand_calls(self, calls: list[Any], apply_hosts: bool = True) -> list[Any]:
        """Fabric's rules: pre and post tasks run once, others once for each host."""
        expanded: list[Any] = []
        for call in calls:
            one = Call(call) if isinstance(call, Task) else call
            expanded += self.expand_calls(one.pre, apply_hosts=False)
            expanded += self._for_hosts(one, apply_hosts)
            expanded += self.expand_calls(one.post, apply_hosts=False)
        taken = any(isinstance(getattr(one, "task", one), RemainderTask) for one in calls)
        if apply_hosts and self._remainder and not taken:
            expanded += self._remainder_calls()
        return expanded

    def dedupe(self, calls: list[Any]) -> list[Any]:
        """Leave everything: the same task for another host is another call."""
        return calls

    @property
    def _doors(self) -> Doors:
        from fabfile.remote.doors import Doors

        if self._opened is None:
            self._opened = Doors(self.config)
        return self._opened

    @property
    def _core(self) -> Any:
        return self.core[0].args if self.core else {}

    @property
    def _remainder(self) -> str:
        return getattr(self.core, "remainder", "") or ""

    @property
    def _names(self) -> tuple[str, ...]:
        given = self._core["hosts"].value if "hosts" in self._core else None
        return tuple(
            dict.fromkeys(name.strip() for name in (given or "").split(",") if name.strip())
        )

    def _for_hosts(self, call: Any, apply_hosts: bool) -> list[Any]:
        if isinstance(call.task, FleetTask):
            seen = {"hosts": self._names, "remainder": self._remainder}
            return [call.clone(into=_FleetCall, with_=seen)]
        hosts = (self._names if apply_hosts else ()) or getattr(call, "hosts", None)
        return self._per_host(call, hosts) if hosts else [call]

    def _per_host(self, call: Any, hosts: Iterable[str | Mapping[str, Any]]) -> list[Any]:
        return [
            call.clone(into=_HostCall, with_={"context": context})
            for context in self._doors.contexts(hosts)
        ]

    def _remainder_calls(self) -> list[Any]:
        if not self._names:
            raise BadInput("a command after -- needs hosts: fab -H web1,web2 run -- uptime")

        def remainder(context: Context) -> None:
            context.run(self._remainder)

        return self._per_host(Call(Task(remainder)), self._names)
