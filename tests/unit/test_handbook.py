"""The handbook: its links and pictures are there, its commands and options exist."""

import re
import shlex
from pathlib import Path

import pytest

from lossfuzz.harness.results.kinds import KINDS
from lossfuzz.parser import command_line

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS / "README.md", *sorted((DOCS / "handbook").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"")
COMMAND = re.compile(r"(?:^\$ |^|`)(lossfuzz [a-z]+[^`\n]*)", re.MULTILINE)
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def anchors(page):
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def links(page):
    found = LINK.findall(page.read_text(encoding="utf-8"))
    return [one or other for one, other in found if not (one or other).startswith("http")]


@every_page
def test_links_lead_somewhere(page):
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def test_every_picture_is_shown_and_all_are_small():
    pictures = set((DOCS / "pictures").glob("*.png"))
    shown = {(page.parent / link).resolve() for page in PAGES for link in links(page)}
    assert pictures
    assert pictures <= shown
    assert sum(picture.stat().st_size for picture in pictures) < 1_500_000


def commands():
    """Every command that the handbook writes out; nothing of one that it shortens."""
    for page in PAGES:
        for text in COMMAND.findall(page.read_text(encoding="utf-8")):
            if not any(sign in text for sign in ("…", "FOLDER")):
                yield pytest.param(text, id=f"{page.stem}: {text}")


@pytest.mark.parametrize("text", list(commands()))
def test_commands_are_understood(text):
    _, command, *arguments = shlex.split(text, comments=True)
    if arguments:
        assert callable(command_line().parse_args([command, *arguments]).command)
        return
    with pytest.raises(SystemExit) as end:  # a command that is only named
        command_line().parse_args([command, "--help"])
    assert end.value.code == 0


def test_every_kind_of_finding_is_explained():
    text = (DOCS / "handbook" / "measures.md").read_text(encoding="utf-8")
    assert all(kind in text for kind in KINDS)
