"""``pillarbox serve | reload | status``: the daemon."""

import sys
from enum import StrEnum
from typing import Annotated, Any

from pillarbox.cli.configuration import find, load, operations, run
from pillarbox.cli.framework import ConfigOption, Exit, JsonOption, Option, Typer, UsageError, example
from pillarbox.cli.output import count, moment_text, remark, say, say_json, say_table, span


class RoleName(StrEnum):
    """What one process of the tree does; without --role, `serve` starts them all."""

    CONTROL = "control"
    SPOOL = "spool"
    SUBMISSION = "submission"
    DELIVERY = "delivery"
    CERTIFICATES = "certificates"


def register(app: Typer) -> None:
    """Adds the commands of this module."""
    example(app, "serve", "pillarbox serve --config /etc/pillarbox/pillarbox.toml")(serve)
    example(app, "reload", "pillarbox reload")(reload)
    example(app, "status", "pillarbox status --json")(status)


def serve(
    role: Annotated[
        RoleName | None, Option(help="Only this role: for one unit and user per role.", show_default=False)
    ] = None,
    worker: Annotated[
        int | None, Option(min=0, metavar="NUMBER", help="The number of this worker of its role.", show_default=False)
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Run the server until it is stopped. SIGTERM finishes what is in hand, SIGHUP reloads."""
    if worker is not None and role is None:
        raise UsageError("--worker goes with --role")
    path = find(config)
    load(path)  # all mistakes, before anything is started
    from pillarbox import daemon  # late: only this command needs the whole server

    raise Exit(daemon.serve(path, role.value if role else None, worker or 0))


def reload(config: ConfigOption = None) -> None:
    """Have the running daemon read its configuration and certificates anew; sessions go on."""
    settings = load(config)

    async def work() -> dict[str, Any]:
        async with operations(settings) as verbs:
            return await verbs.reload()

    answer = run(work())
    have = "process has" if answer["processes"] == 1 else "processes have"
    remark(f"reloaded: {answer['processes']} {have} the new configuration")


def status(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show the daemon, its processes and the queue. Exit code 1 when something is not as it should be."""
    settings = load(config)

    async def work() -> dict[str, Any]:
        async with operations(settings) as verbs:
            return await verbs.status()

    found = run(work())
    if as_json:
        say_json(found)
    else:
        _show(found)
    if not found["ready"]:
        raise Exit(1)


_COLUMNS = (
    "role",
    "worker",
    "pid",
    "since",
    "ready",
    "restarts",
    "promise",
    "guard",
    "users",
    "certificates",
    "acme",
)


def _show(found: dict[str, Any]) -> None:
    say(f"Pillarbox {found['version']}, pid {found['pid']}, since {moment_text(found['since'])}")
    say(f"configuration  {found['config']}")
    if found.get("reloaded_at"):
        say(f"reloaded       {moment_text(found['reloaded_at'])}")
    say(f"state          {'ready' if found['ready'] else 'NOT READY'}")
    for promise in {process["promise"] for process in found["processes"] if process.get("promise")}:
        say(f"promise        {promise}")
    for alone in (process["guard"] for process in found["processes"] if process.get("guard")):
        say(f"guard          {alone}")
    for trouble in (process["users"] for process in found["processes"] if process.get("users")):
        say(f"users          {trouble}")
    _show_certificates(found["processes"])
    _show_queue(found.get("queue"))
    say("")
    rows = []
    for process in found["processes"]:
        more = [
            f"{key}={_short(value)}" for key, value in process.items() if key not in _COLUMNS and value is not None
        ]
        rows.append(
            (
                process["role"],
                process["worker"],
                process["pid"],
                moment_text(process["since"]),
                "ready" if process["ready"] else "starting",
                process["restarts"],
                " ".join(more),
            )
        )
    say_table(("ROLE", "WORKER", "PID", "SINCE", "STATE", "RESTARTS", ""), rows)
    sys.stdout.flush()


def _show_certificates(processes: list[dict[str, Any]]) -> None:
    """One line for each site: until when its certificate is good, what is doubtful, what hinders a new one."""
    acme: dict[str, Any] = next((process["acme"] for process in processes if process.get("acme")), {})
    for site, shown in next((p["certificates"] for p in processes if p.get("certificates")), {}).items():
        until = "none yet" if shown["until"] is None else f"until {moment_text(shown['until'])}"
        say(f"certificate    {site}: {until}")
        for doubt in shown["doubts"]:
            say(f"               {doubt}")
        hindered = acme.get(site, {})
        if hindered.get("reason"):
            say(f"               {hindered['reason']}")
            say(f"               -> {hindered['advice']}; next try {moment_text(hindered['next_try'])}")


def _show_queue(queue: dict[str, Any] | None) -> None:
    if queue is None:
        say("queue          unknown: the spool process does not answer")
        return
    waiting = ", ".join(f"{number} {state}" for state, number in queue["recipients"].items() if number)
    oldest = f", the oldest for {span(queue['age'])}" if queue["age"] is not None else ""
    say(f"queue          {count(queue['messages'], 'message')} ({waiting or 'no recipients'}){oldest}")
    if queue["free"] is not None:
        where = "to the cells' limits" if queue["cells"] else "where the spool lies"
        say(f"free           {queue['free'] / (1 << 30):.1f} GiB {where}")
    for cell in queue["cells"]:
        say(f"cell           {_cell(cell)}")


def _cell(cell: dict[str, Any]) -> str:
    """A cell in one line: "a: 17 messages, 1.2 GiB of 20.0 GiB; why it is not well"."""
    parts = ["cannot be asked" if cell["messages"] is None else count(cell["messages"], "message")]
    if cell["size"] is not None:
        limit = f" of {cell['max_size'] / (1 << 30):.1f} GiB" if cell["max_size"] is not None else ""
        parts.append(f"{cell['size'] / (1 << 30):.1f} GiB{limit}")
    trouble = f"; {cell['reason']}" if cell["reason"] else ""
    return f"{cell['name']}: {', '.join(parts)}{trouble}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
