"""The report's page: sections of sentences, tables and pictures, as one HTML file and as Markdown."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tapct_core.atomic import atomic_path
from tapct_core.export.report_style import POLICY

from .tables import Table, markdown, words_of

WARNING = "Research use only. Not a medical device; no figure here says anything about clinical use."


@dataclass(frozen=True)
class Picture:
    """A PNG, the name of its file, and what it shows."""

    name: str
    png: bytes
    caption: str


@dataclass(frozen=True)
class Section:
    """One part of the page, in the order in which it is printed."""

    title: str
    words: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


def write_page(folder: Path, title: str, sections: Sequence[Section]) -> None:
    """index.html, report.md and pictures/ into ``folder``; each file whole or not there."""
    for section in sections:
        for picture in section.pictures:
            with atomic_path(folder / "pictures" / picture.name) as part:
                part.write_bytes(picture.png)
    with atomic_path(folder / "report.md") as part:
        part.write_text(to_markdown(title, sections), encoding="utf-8")
    with atomic_path(folder / "index.html") as part:
        part.write_text(to_html(title, sections), encoding="utf-8")


def to_markdown(title: str, sections: Sequence[Section]) -> str:
    """The page in Markdown; pictures are named by their file in pictures/."""
    parts = [f"# {title}", WARNING]
    for section in sections:
        parts.append(f"## {section.title}")
        parts += [f"- {words}" for words in section.words]
        for table in section.tables:
            parts += [f"### {table.title}", *([table.caption] if table.caption else []), markdown(table)]
        parts += [f"![{picture.caption}](pictures/{picture.name})" for picture in section.pictures]
        if section.left_out:
            parts.append(f"{_left_out_title(section.left_out)}")
            parts.append("\n".join(f"- `{id}`: {why}" for id, why in section.left_out.items()))
        parts += list(section.notes)
    return "\n\n".join(parts) + "\n"


def to_html(title: str, sections: Sequence[Section]) -> str:
    """The page in one file: pictures inside, no script, light and dark."""
    parts = [f"<h1>{html.escape(title)}</h1><p class=warning>{html.escape(WARNING)}</p>"]
    for section in sections:
        parts.append(f"<section><h2>{html.escape(section.title)}</h2>")
        if section.words:
            parts.append(f"<div class=words>{_html_list(map(html.escape, section.words))}</div>")
        parts += [_html_table(table) for table in section.tables]
        for picture in section.pictures:
            data = base64.b64encode(picture.png).decode()
            text = html.escape(picture.caption)
            parts.append(
                f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
            )
        if section.left_out:
            items = "".join(
                f"<li><code>{html.escape(i)}</code>: {html.escape(w)}</li>" for i, w in section.left_out.items()
            )
            parts.append(f"<h3>{html.escape(_left_out_title(section.left_out))}</h3><ul>{items}</ul>")
        parts += [f"<p class=note>{html.escape(note)}</p>" for note in section.notes]
        parts.append("</section>")
    return HTML.format(title=html.escape(title), policy=POLICY, style=STYLE, body="\n".join(parts))


HTML = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
STYLE = """
:root { color-scheme: light dark; --ink: #1b2127; --quiet: #5b6670; --line: #d9dfe4; --band: #f4f6f8; --page: #fff;
  --accent: #0b6e99; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecef; --quiet: #9aa6b1; --line: #323a42; --band: #1b2127;
  --page: #12161a; --accent: #59b8e0; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 76rem;
  margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; margin-bottom: .2rem } h2 { margin-top: 2.6rem; border-bottom: 2px solid var(--accent);
  padding-bottom: .2rem } h3 { margin: 1.8rem 0 .3rem; font-size: 1.05rem }
.warning, .note, caption, figcaption { color: var(--quiet); font-size: .9rem }
.words { font-weight: 600 }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { padding: .35rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th { vertical-align: bottom; background: var(--band); white-space: normal }
th:first-child, td:first-child { text-align: left } td.text { text-align: left; white-space: normal }
td b { font-weight: 600 } td span { color: var(--quiet); font-size: .85em }
figure { margin: 1.4rem 0 } img { max-width: 100%; height: auto; border-radius: 4px }
@media print { body { max-width: none; margin: 0 } section { break-inside: avoid-page } }
"""


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in table.columns)
    body = "".join(f"<tr>{''.join(_html_cell(entry) for entry in row)}</tr>" for row in table.rows)
    caption = f"<p class=note>{html.escape(table.caption)}</p>" if table.caption else ""
    title = f"<h3>{html.escape(table.title)}</h3>"
    return f"{title}{caption}<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _html_list(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>"


def _html_cell(entry) -> str:
    text = html.escape(words_of(entry))
    if isinstance(entry, dict) and " (" in text:
        figure, interval = text.split(" (", 1)
        return f"<td><b>{figure}</b> <span>({interval}</span></td>"
    return f"<td class=text>{text}</td>" if isinstance(entry, str) and len(entry) > 24 else f"<td>{text}</td>"


def _left_out_title(left_out: Mapping[str, str]) -> str:
    return f"Left out of every mean: {len(left_out)} case{'s' * (len(left_out) != 1)}"
