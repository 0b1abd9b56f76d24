"""docs/operations.md: its settings are those of the service, the messages it explains are those that are written."""

from __future__ import annotations

import re

from service.reference import rewritten
from tests.docs.test_project import ROOT

PAGE = (ROOT / "docs" / "operations.md").read_text()
SOURCES = "\n".join(path.read_text() for room in ("service", "models") for path in (ROOT / room).rglob("*.py"))
# Written by others, or put together from parts.
_OF_OTHERS = ('"ready": false', '"verified": false', "was ended by signal")


def test_the_table_of_settings_is_up_to_date() -> None:
    """`make docs` would change nothing."""
    assert rewritten(PAGE) == PAGE


def test_messages_are_the_real_ones() -> None:
    """Whatever is explained under "When something is wrong" stands in the sources, between the parts that vary."""
    (table,) = re.findall(r"^\| you see .*?(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
    shown = [message for line in table.split("\n| ")[1:] for message in re.findall(r"`([^`]+)`", line.split(" | ")[0])]
    assert len(shown) > 15
    sources = re.sub(r'"\s*\n\s*f?"', "", SOURCES)  # texts that go on in the next line
    for message in shown:
        for part in re.split(r"…", message):
            words = part.strip(" :;,")
            if len(words) > 3 and not words.startswith(("/v1", "worker", "--")):
                assert words in sources or words.startswith(_OF_OTHERS), words
