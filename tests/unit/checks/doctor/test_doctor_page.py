"""docs/doctor.md says what the rules say."""

from pathlib import Path

from fabfile.checks.doctor.catalogue import CATALOGUE, table
from fabfile.checks.doctor.kinds import AREAS

PAGE = Path(__file__).resolve().parents[4] / "docs" / "doctor.md"


def test_the_page_holds_the_table_of_all_findings_as_it_is():
    text = PAGE.read_text(encoding="utf-8")
    assert "\n".join(table()) in text, (
        "print fabfile.checks.doctor.catalogue.table() into docs/doctor.md"
    )


def test_every_kind_stands_in_the_table_once():
    lines = "\n".join(table())
    assert all(lines.count(f"| `{code}` |") == 1 for code in CATALOGUE)
    assert {kind.area for kind in CATALOGUE.values()} == set(AREAS)
