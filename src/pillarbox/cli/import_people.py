"""``pillarbox import``: people of another system, with the passwords that they have."""

from pathlib import Path
from typing import Annotated, Any

from pillarbox.cli.configuration import load, operations, run
from pillarbox.cli.framework import Argument, CommandError, ConfigOption, JsonOption, Option, example, group
from pillarbox.cli.output import remark, say_json, say_table
from pillarbox.console.operations import OperationFailed
from pillarbox.directory.domino_people import People, read_people
from pillarbox.directory.ldif import LdifBroken

app = group("import", "Bring in people of another system, with the passwords that they have.")


@example(app, "domino", "pillarbox import domino people.ldif --dry-run")
def domino(
    file: Annotated[Path, Argument(help="The export, in LDIF.", metavar="FILE", show_default=False)],
    dry_run: Annotated[bool, Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    charset: Annotated[str, Option(help="Of values that are not ASCII.", metavar="NAME")] = "utf-8",
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Make a local account for each person of a Domino Directory. Repeatable; says what became of each."""
    settings = load(config)
    people = _read(file, charset)

    async def work() -> list[dict[str, str]]:
        done = [_line(who, "", "skipped", why) for who, why in people.skipped]
        async with operations(settings) as verbs:
            for person in people.found:
                try:
                    what, why = await verbs.import_user(
                        person.login, person.addresses, person.password_hash, dry_run=dry_run
                    )
                except OperationFailed as failed:
                    what, why = "failed", str(failed)
                done.append(_line(person.who, person.login, what, why))
        return done

    done = run(work())
    _tell(done, people, dry_run, as_json)
    if any(each["done"] == "failed" for each in done):
        raise CommandError("some could not be brought in; do it again: that does no harm")


def _read(file: Path, charset: str) -> People:
    try:
        with file.open("rb") as source:
            return read_people(source, charset)
    except LookupError:
        raise CommandError(f"--charset {charset}: there is no such charset", code=2) from None
    except LdifBroken as broken:
        raise CommandError(f"{file}: {broken}; nothing was done") from None
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from None


def _line(who: str, login: str, what: str, why: str) -> dict[str, str]:
    return {"who": who, "login": login, "done": what, "why": why}


def _tell(done: list[dict[str, str]], people: People, dry_run: bool, as_json: bool) -> None:
    counts: dict[str, int] = {}
    for each in done:
        counts[each["done"]] = counts.get(each["done"], 0) + 1
    if as_json:
        answer: dict[str, Any] = {"dry_run": dry_run, "people": done, "counts": counts, "others": people.others}
        say_json(answer)
        return
    if done:
        say_table(("WHO", "LOGIN", "DONE", "WHY"), [tuple(each.values()) for each in done])
    told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items())) or "nobody is in it"
    remark(f"{'nothing was done; would be: ' if dry_run else ''}{told}; {people.others} entries are no people")
