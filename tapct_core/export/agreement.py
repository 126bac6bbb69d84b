"""A page on what two readers agree on, one file that loads nothing and prints to A4, as the report does."""

from __future__ import annotations

from html import escape
from pathlib import Path

from ..atomic import atomic_path
from ..lesions.agreement import Agreement
from .report_style import POLICY, style
from .words import NOTHING, millimetres


def write_agreement(found: Agreement, readers: tuple[str, str], path: str | Path) -> Path:
    """Write the page, whole or not at all; ``readers`` are what to call the two. Returns its path."""
    path = Path(path)
    with atomic_path(path, private=True) as part:
        part.write_text(_page(found, readers), encoding="utf-8")
    return path


def _page(found: Agreement, readers: tuple[str, str]) -> str:
    one, other = map(escape, readers)
    both, first, second = found.targets
    mean, limits = found.mean_difference_mm, found.limits_mm
    spread = NOTHING if limits is None else f"{limits[0]:+.1f} to {limits[1]:+.1f} mm"
    numbers = (
        (f"{both}", f"targets of both; {one} alone {first}, {other} alone {second}"),
        (NOTHING if mean is None else f"{mean:+.1f} mm", f"mean difference of {len(found.sizes)} diameters"),
        (spread, "limits of agreement, 95 %"),
        (f"{len(found.to_settle)}", "to settle"),
    )
    summary = "".join(f"<div><strong>{value}</strong>{words}</div>" for value, words in numbers)
    settle = "".join(f"<li>{escape(line)}</li>" for line in found.to_settle)
    heads = f'<th class="n">{one}</th><th class="n">{other}</th>'
    categories = "".join(
        f'<tr><td>{escape(name)}</td><td class="n">{escape(a)}</td><td class="n">{escape(b)}</td></tr>'
        for name, a, b in found.categories
    )
    sizes = "".join(
        f'<tr><td>{escape(size.pair.name)}</td><td>{escape(size.timepoint)}</td>'
        f'<td class="n">{millimetres(size.first_mm)}</td><td class="n">{millimetres(size.second_mm)}</td>'
        f'<td class="n">{size.difference_mm:+.1f}</td></tr>'
        for size in found.sizes
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>Two readers</title><style>{style()}</style></head>\n<body>"
        f'<header><h1>Two readers</h1><p>{one} and {other}</p><p class="notice">Research use only</p></header>'
        f'<div class="summary">{summary}</div>'
        f"<h2>To settle</h2>{f'<ol>{settle}</ol>' if settle else '<p>Nothing differs.</p>'}"
        f"<h2>Response</h2><table><thead><tr><th>Time point</th>{heads}</tr></thead>{categories}</table>"
        f"<h2>Diameters, mm</h2><table><thead><tr><th>Lesion</th><th>Time point</th>{heads}"
        f'<th class="n">Difference</th></tr></thead>{sizes}</table>'
        "<footer><p>Difference: second minus first. Limits: mean ± 1.96 standard deviations (Bland and Altman 1986). "
        "Research use only; not a diagnosis.</p></footer></body></html>\n"
    )
