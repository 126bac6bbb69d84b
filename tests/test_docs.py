"""The pages: every link within them leads somewhere, the site lists every page, the reference every public name."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from markdown.extensions.toc import slugify

import tapct_core as tc

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@cache
def prose(page: Path) -> str:
    """A page without its blocks of code and its code within lines, in which nothing is a link or a heading."""
    text = re.sub(r"^ *(```|~~~).*?^ *\1", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return re.sub(r"`[^`\n]+`", lambda code: code[0] if "](" not in code[0] else "", text)


@cache
def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page may end in, as the site numbers headings that are alike."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *$", prose(page), flags=re.M):
        slug = slugify(LINK.sub(lambda link: link[0][1 : link[0].index("]")], heading).replace("`", ""), "-")
        found.add(f"{slug}_{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def faults(page: Path) -> list[str]:
    """Every link of the page that leads nowhere: no such file, no such heading, or out of the site from within it."""
    out = []
    for target in LINK.findall(prose(page)):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = unquote(target).partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists():
            out.append(f"{target}: no such file")
        elif page.is_relative_to(DOCS) and not file.is_relative_to(DOCS):
            out.append(f"{target}: not part of the site")
        elif anchor and anchor not in anchors(file):
            out.append(f"{target}: no such heading")
    return out


def in_nav(entry: object) -> list[str]:
    """The pages named in a part of mkdocs.yml's nav."""
    if isinstance(entry, str):
        return [entry]
    return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in in_nav(part)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_leads_somewhere(page):
    assert not faults(page)


def test_a_link_that_leads_nowhere_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Here `it` is\n\n[a](#here-it-is) [b](#there) [c](other.md)\n\n```\n[d](none.md)\n```\n")
    assert faults(page) == ["#there: no such heading", "other.md: no such file"]


def test_the_site_lists_each_page_once_and_no_other():
    """Pages of results, which benchmarks write, may come before their place in the list."""
    listed = Counter(in_nav(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    there = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert not {page for page, times in listed.items() if times > 1}
    assert not set(listed) - there, "listed and not there"
    assert not {page for page in there - set(listed) if not page.startswith("results/")}, "there and not listed"


def test_the_reference_has_every_public_name():
    written = re.findall(r"^::: (\S+)$", (DOCS / "reference" / "python.md").read_text(encoding="utf-8"), flags=re.M)
    assert sorted(written) == sorted(
        f"{value.__module__}.{name}" for name in tc.__all__ if (value := getattr(tc, name)) is not tc.__version__
    )


def test_no_line_installs_what_is_not_published():
    """Until there is a release, pip knows no package of this name; the checkout installs, or others."""
    sources = [path for package in ("tapct_core", "napari_tapct") for path in (ROOT / package).rglob("*.py")]
    line = re.compile(r"pip install [^`\n]*napari-tapct\b")
    asking = [path for path in (*PAGES, *sources) if line.search(path.read_text(encoding="utf-8"))]
    assert not asking
