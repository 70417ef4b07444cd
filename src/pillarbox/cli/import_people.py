"""``pillarbox import``: people of another system, with the passwords that they have."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pillarbox.cli.configuration import load, operations, run
from pillarbox.cli.framework import Argument, CommandError, ConfigOption, JsonOption, Option, example, group
from pillarbox.cli.output import remark, say_json, say_table
from pillarbox.console.operations import OperationFailed
from pillarbox.directory import domino_names
from pillarbox.directory.domino_people import People, read_people
from pillarbox.directory.ldif import LdifBroken


class Names(StrEnum):
    """Which names sign in."""

    FEWER = "fewer"
    MORE = "more"


_NAMES = {Names.FEWER: domino_names.Names.FEWER, Names.MORE: domino_names.Names.MORE}

app = group(
    "import",
    "Bring in people of another system, with the passwords that they have.",
    "pillarbox import domino people.ldif --dry-run",
)


@example(app, "domino", "pillarbox import domino people.ldif --dry-run")
def domino(
    file: Annotated[Path, Argument(help="The export, in LDIF.", metavar="FILE", show_default=False)],
    dry_run: Annotated[bool, Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    names: Annotated[
        Names, Option(help="Which names sign in, as in Domino's Internet authentication: fewer or more variations.")
    ] = Names.FEWER,
    charset: Annotated[str, Option(help="Of values that are not ASCII.", metavar="NAME")] = "utf-8",
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Make a local account for each person of a Domino Directory. Repeatable; says what became of each."""
    settings = load(config)
    people = _read(file, charset, names)

    async def work() -> list[dict[str, Any]]:
        done = [_line(who, "", "skipped", why, []) for who, why in people.skipped]
        async with operations(settings) as verbs:
            for person in people.found:
                try:
                    what, why, taken = await verbs.import_user(
                        person.login, person.addresses, person.password_hash, names=person.names, dry_run=dry_run
                    )
                except OperationFailed as failed:
                    what, why, taken = "failed", str(failed), []
                shared = [] if what in ("failed", "skipped") else sorted({*person.shared, *taken})
                done.append(_line(person.who, person.login, what, why, shared))
        return done

    done = run(work())
    _tell(done, people, dry_run, as_json)
    if any(each["done"] == "failed" for each in done):
        raise CommandError("some could not be brought in; do it again: that does no harm")


def _read(file: Path, charset: str, names: Names) -> People:
    try:
        with file.open("rb") as source:
            return read_people(source, charset, _NAMES[names])
    except LookupError:
        raise CommandError(f"--charset {charset}: there is no such charset", code=2) from None
    except LdifBroken as broken:
        raise CommandError(f"{file}: {broken}; nothing was done") from None
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from None


def _line(who: str, login: str, what: str, why: str, ambiguous: list[str]) -> dict[str, Any]:
    return {"who": who, "login": login, "done": what, "why": why, "ambiguous": ambiguous}


def _row(line: dict[str, Any]) -> tuple[str, ...]:
    why = [line["why"]] if line["why"] else []
    if line["ambiguous"]:
        why.append(f"not by {', '.join(line['ambiguous'])}: somebody else has the name, too")
    return line["who"], line["login"], line["done"], "; ".join(why)


def _tell(done: list[dict[str, Any]], people: People, dry_run: bool, as_json: bool) -> None:
    counts: dict[str, int] = {}
    for each in done:
        counts[each["done"]] = counts.get(each["done"], 0) + 1
    if as_json:
        answer: dict[str, Any] = {"dry_run": dry_run, "people": done, "counts": counts, "others": people.others}
        say_json(answer)
        return
    if done:
        say_table(("WHO", "LOGIN", "DONE", "WHY"), [_row(each) for each in done])
    told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items())) or "nobody is in it"
    remark(f"{'nothing was done; would be: ' if dry_run else ''}{told}; {people.others} entries are no people")
