"""What people read is true: links, named tests, make targets, lock files."""

import tomllib
from pathlib import Path

from tests.house import documents

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "contrib").rglob("*.md"))]
MAKEFILE = (ROOT / "Makefile").read_text()
WORDS = {
    *("setup", "demo", "serve", "fmt", "check", "test", "scenarios", "interop", "interop-all", "fuzz", "cov"),
    *("bench", "docs", "build", "chaos", "clean", "cov-pure", "attacks", "cluster-test"),
}


def test_links_lead_somewhere() -> None:
    assert [text for path in DOCUMENTS for text in documents.dead_links(ROOT, path)] == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    text = (
        "# Top, `of` it\n[a](page.md#top-of-it) [b](https://example.org/#x) [c](gone.md) [d](#top) [e](#top-of-it)\n"
    )
    page.write_text(f"{text}```\n# No heading\n```\n[f](page.md#no-heading)\n")
    assert documents.dead_links(tmp_path, page) == [
        "page.md: gone.md does not exist",
        "page.md: #top: there is no such heading",
        "page.md: page.md#no-heading: there is no such heading",
    ]


def test_tests_that_documents_name_exist() -> None:
    assert [text for path in DOCUMENTS for text in documents.dead_tests(ROOT, path)] == []


def test_a_test_that_does_not_exist_is_found(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("def test_real(): ...\n")
    page = tmp_path / "page.md"
    page.write_text("`tests/test_a.py::test_real` `tests/test_a.py::test_unreal` `tests/test_b.py`")
    assert documents.dead_tests(tmp_path, page) == [
        "page.md: tests/test_a.py has no test_unreal",
        "page.md: tests/test_b.py does not exist",
    ]


def test_make_has_its_words_and_help_for_each() -> None:
    targets = dict(documents.make_targets(MAKEFILE))
    assert [word for word in WORDS if word not in targets] == []
    assert [name for name, words in targets.items() if not words] == []


def test_documents_name_real_targets() -> None:
    texts = [(str(path.relative_to(ROOT)), path.read_text()) for path in [*DOCUMENTS, ROOT / ".ci" / "run"]]
    assert [each for name, text in texts for each in documents.unknown_targets(name, text, MAKEFILE)] == []
    assert documents.unknown_targets("page", "Type `make coffee`.", MAKEFILE) == ["page: `make coffee` is no target"]


def test_the_readme_has_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text


def test_lock_files_have_hashes_and_no_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    run_time = {_name(each) for each in project["dependencies"]}
    extras = {name: {_name(each) for each in wanted} for name, wanted in project["optional-dependencies"].items()}
    development = run_time | extras["dev"] | {"hatchling"}
    locks = (
        *((f"requirements-{name}.lock", run_time | extras[name]) for name in ("acme", "hashes", "ldap", "oauth")),
        ("requirements-cluster.lock", run_time | extras["cluster"] | extras["sql"]),
        ("requirements.lock", run_time),
        ("requirements-dev.lock", development),
        ("tests/fuzz/requirements.lock", {"atheris"}),
    )
    for name, wanted in locks:
        assert documents.lock_faults(name, (ROOT / name).read_text(), wanted) == []


def test_a_lock_file_with_faults_is_found() -> None:
    lock = "--index-url https://packages.example/simple\na==1 \\\n    --hash=sha256:00\nb==2\n"
    found = documents.lock_faults("lock", lock, {"A", "c"})
    assert len(found) == 3
    assert "names a place" in found[0] and "no hash for b==2" in found[1] and "c is not locked" in found[2]


def _name(requirement: str) -> str:
    for end, character in enumerate(requirement):
        if not (character.isalnum() or character in "-_."):
            return requirement[:end]
    return requirement
