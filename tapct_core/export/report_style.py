"""The report's looks: light or dark as the reader's system has it, always light on paper. Nothing is loaded."""

from __future__ import annotations

from .colours import CATEGORIES, GROWN, LESIONS, QUIET, SHRUNK, STATES, UNDECIDED

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""A page may load nothing and run nothing: its pictures are in it, and so are its styles."""

_GROUNDS = {
    "ground": ("#14181d", "#ffffff"),
    "card": ("#1b2027", "#f6f7f9"),
    "line": ("#333b45", "#d5dae0"),
    "text": ("#eceff2", "#1b1f24"),
    "quiet": QUIET,
    "undecided": UNDECIDED,
    "grown": GROWN,
    "shrunk": SHRUNK,
}

_RULES = """
* { box-sizing: border-box; }
html { background: var(--ground); color: var(--text); font: 14px/1.45 system-ui, "Segoe UI", Roboto, sans-serif; }
body { max-width: 1180px; margin: 0 auto; padding: 28px 24px 48px; font-variant-numeric: tabular-nums; }
h1 { font-size: 24px; font-weight: 650; margin: 0; }
h2 { font-size: 15px; font-weight: 650; margin: 30px 0 10px; }
h3 { font-size: 14px; font-weight: 650; margin: 0; }
p { margin: 4px 0; } .quiet, figcaption, th, footer { color: var(--quiet); }
header { display: flex; flex-wrap: wrap; gap: 8px 24px; align-items: baseline; border-bottom: 2px solid var(--line);
  padding-bottom: 12px; } header p { margin: 0; }
.notice { margin-left: auto; border: 1px solid var(--undecided); color: var(--undecided); border-radius: 4px;
  padding: 1px 8px; font-weight: 600; }
.summary { display: flex; flex-wrap: wrap; gap: 12px; margin: 16px 0 0; }
.summary div { background: var(--card); border-radius: 6px; padding: 10px 16px; min-width: 130px; }
.summary strong { display: block; font-size: 22px; font-weight: 650; line-height: 1.3; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th { font-weight: 500;
  text-align: left; border-bottom: 1px solid var(--quiet); padding: 4px 10px; white-space: nowrap; }
td { border-bottom: 1px solid var(--line); padding: 6px 10px; vertical-align: top; }
td.n, th.n { text-align: right; white-space: nowrap; } td small { color: var(--quiet); display: block; }
.pill { display: inline-block; border: 1px solid var(--c); background: var(--c); color: var(--ground);
  border-radius: 9px; padding: 0 9px; font-weight: 650; white-space: nowrap; }
.pill.open { background: none; color: var(--c); border-style: dashed; }
.dot { display: inline-block; width: 9px; height: 9px; border: 2px solid var(--c); background: var(--c);
  border-radius: 50%; margin-right: 6px; } .dot.open { background: none; }
.bar { display: inline-block; width: 4px; height: 13px; background: var(--c); border-radius: 2px; margin-right: 7px;
  vertical-align: -2px; }
.grown { color: var(--grown); } .shrunk { color: var(--shrunk); } .undecided { color: var(--undecided); }
section.lesion { break-inside: avoid; border-top: 1px solid var(--line); padding: 12px 0 14px; }
.row { display: flex; flex-wrap: wrap; gap: 12px; margin-top: 8px; } figure { margin: 0; width: 168px; }
figure svg { display: block; width: 168px; height: 168px; border-radius: 4px; background: #000; }
.none { width: 168px; height: 168px; border: 1px dashed var(--line); border-radius: 4px; display: flex; padding: 12px;
  align-items: center; justify-content: center; text-align: center; color: var(--quiet); }
figcaption { margin-top: 5px; font-size: 12px; line-height: 1.4; }
figcaption b { color: var(--text); font-weight: 600; }
.outline { fill: none; stroke: #4cc9f0; } .axis, .cross { stroke: #ffd166; }
.halo { stroke: #000; stroke-width: 3.4; stroke-opacity: 0.55; }
.plot { width: 100%; height: auto; } .plot text { font-size: 12px; fill: var(--text); }
.plot .quiet { fill: var(--quiet); } .plot .grid { stroke: var(--line); }
.plot .sum { stroke: var(--text); fill: none; }
.plot .curve { stroke: var(--c); fill: none; } .plot .mark { stroke: var(--c); fill: var(--c); }
.plot .open { fill: var(--ground); } .plot .name, .plot .limit { fill: var(--c); } .plot .bound { stroke: var(--c); }
footer { margin-top: 36px; border-top: 2px solid var(--line); padding-top: 10px; font-size: 12px; }
@media print { html { font-size: 10px; } body { max-width: none; padding: 0; } .wide { overflow: visible; }
  h1, h2, h3 { break-after: avoid; } tr, figure, .summary, .plot { break-inside: avoid; }
  thead { display: table-header-group; } th { white-space: normal; padding: 3px 5px; } td { padding: 3px 5px; }
  td.n, th.n { white-space: normal; } p, figcaption { orphans: 3; widows: 3; overflow-wrap: anywhere; }
  .row { gap: 5mm 4.6mm; } figure, figure svg, .none { width: 43mm; } figure svg, .none { height: 43mm; }
  section.lesion { break-inside: auto; } .plot { max-height: 90mm; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
@page { size: A4; margin: 12mm 12mm 16mm;
  @bottom-right { content: counter(page) " / " counter(pages); font: 9px sans-serif; color: #5b6570; } }
"""


def style() -> str:
    """The report's style sheet."""
    dark, light = (_variables(place) for place in (0, 1))
    in_the_dark = f"@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}"
    return f":root {{ color-scheme: light dark; }}\n{light}\n{in_the_dark}{_RULES}"


def category_class(category: str) -> str:
    """The class that gives a response its colour."""
    return f"c{list(CATEGORIES).index(category)}"


def state_class(state: str, decided: bool) -> str:
    """The class that gives a finding its colour."""
    return f"s{list(STATES).index(state)}" if decided else "su"


def lesion_class(number: int) -> str:
    """The class that gives a lesion its colour, by its place in the study."""
    return f"l{number % len(LESIONS)}"


def _variables(place: int) -> str:
    """``place`` 0: on dark ground, 1: on light."""
    lines = [f":root {{ {' '.join(f'--{name}: {pair[place]};' for name, pair in _GROUNDS.items())} }}"]
    lines += [f".c{n} {{ --c: {pair[place]}; }}" for n, pair in enumerate(CATEGORIES.values())]
    lines += [f".s{n} {{ --c: {pair[place]}; }}" for n, pair in enumerate(STATES.values())]
    lines += [f".l{n} {{ --c: {pair[place]}; }}" for n, pair in enumerate(LESIONS)]
    return "\n".join([*lines, f".su {{ --c: {UNDECIDED[place]}; }}"])
