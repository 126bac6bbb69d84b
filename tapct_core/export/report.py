"""A study as one HTML file that opens anywhere: response, timeline, table, and every lesion's picture at every scan.

Nothing is fetched and no script runs. It says who decided and when, and what nobody has decided; it holds no name of
a patient, only the study's key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from html import escape
from pathlib import Path

from .. import __version__
from ..atomic import atomic_path
from ..lesions import Finding, Lesion, Study, Timepoint
from ..lesions.assessment import Assessment, changes, total
from ..lesions.criteria import CRITERIA
from ..lesions.curves import Course, course_of
from ..lesions.recist import PARTIAL, PROGRESS
from ..lesions.sentences import probability
from ..volume import CTVolume
from .report_pictures import lesion_picture, side_mm, timeline, window_of
from .report_style import POLICY, category_class, lesion_class, state_class, style
from .words import NOTHING, local_time, millilitres, millimetres, percent

METHOD = (
    "Diameters are measured on the scan's own pixels in axial slices: the longest distance across one connected part "
    "of the mask, and the longest chord at right angles to it in that slice; of nodes the short axis is read. A "
    "diameter with a question mark is doubtful, and counts in no sum until a person confirms it. Hollow marks and "
    "dashed frames are proposals that nobody has decided on. In the pictures the patient's right is on the left, "
    "anterior is up, the bar is 1 cm."
)


def write_report(
    study: Study,
    volumes: Mapping[str, CTVolume],
    path: str | Path,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the report, whole or not at all; returns its path.

    ``volumes`` are the scans by time point's name. They are asked for one after the other, so a mapping that reads
    them when asked holds one at a time; a scan that is not in it leaves words where its pictures would be.
    ``progress`` is told (done, total) after each time point.
    """
    pictures: dict[tuple[str, str], str] = {}
    windows: dict[str, tuple[float, float]] = {}
    slice_mm = 0.0
    for number, timepoint in enumerate(study.timepoints):
        volume = volumes.get(timepoint.name)
        if volume is not None:
            slice_mm = volume.geometry.spacing_mm[0] if number == 0 else slice_mm
            pictures |= _pictures(study, timepoint, volume, windows)
        if progress is not None:
            progress(number + 1, len(study.timepoints))
    text = _page(study, course_of(study, slice_mm), pictures)
    path = Path(path)
    with atomic_path(path, private=True) as part:
        part.write_text(text, encoding="utf-8")
    return path


def _pictures(
    study: Study, timepoint: Timepoint, volume: CTVolume, windows: dict[str, tuple[float, float]]
) -> dict[tuple[str, str], str]:
    """By tracking UID and time point; a lesion keeps the window of its first picture."""
    out = {}
    for lesion in study.lesions:
        finding = lesion.findings.get(timepoint.name)
        if finding is None or not finding.present or not volume.geometry.contains(finding.point_lps_mm):
            continue
        window = windows.setdefault(lesion.uid, window_of(volume, finding))
        words = f"{lesion.name} at {timepoint.name}"
        out[lesion.uid, timepoint.name] = lesion_picture(volume, finding, side_mm(lesion), window, words)
    return out


def _page(study: Study, course: Course, pictures: dict[tuple[str, str], str]) -> str:
    drawn = timeline(course)
    parts = [
        _head(study),
        _summary(study, course),
        _responses(study, course),
        f"<h2>Over time</h2>{drawn}" if drawn else "",
        _table(study),
        _lesions(study, pictures),
        f"<footer><p>{METHOD} {_source(study)}</p>"
        f"<p>napari-tapct {escape(__version__)}. Research use only. This is not a medical "
        "device, and nothing here is a diagnosis.</p></footer>",
    ]
    key = escape(study.patient_key or "study")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Lesion follow-up, {key}</title><style>{style()}</style></head>\n<body>{''.join(parts)}</body></html>\n"
    )


def _head(study: Study) -> str:
    made = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    dates = [timepoint.date for timepoint in study.timepoints if timepoint.date]
    span = f", {dates[0]} to {dates[-1]}" if len(dates) > 1 else ""
    scans = _count(len(study.timepoints), "scan")
    return (
        f"<header><h1>Lesion follow-up</h1><p>Patient <b>{escape(study.patient_key or NOTHING)}</b></p>"
        f'<p class="quiet">{scans}{span}; report of {made}</p><p class="notice">Research use only</p></header>'
    )


def _summary(study: Study, course: Course) -> str:
    findings = [found for lesion in study.lesions for found in lesion.findings.values()]
    open_ = sum(not found.decided for found in findings)
    targets = sum(lesion.role == "target" for lesion in study.lesions)
    tiles = [(str(len(study.lesions)), f"lesions, {_count(targets, 'target')}")]
    if course.responses:
        last = course.responses[-1]
        said = f"response at {escape(last.timepoint)}{', provisional' if last.provisional else ''}"
        tiles.insert(0, (_pill(last), said))
        if last.response.total is not None:
            change = percent(last.response.change_from_baseline, 1)
            value = f"{_sum(last.response.total, study)} {last.response.unit}"
            tiles.insert(1, (value, f"sum of targets, {change} from baseline"))
    waits = f'<span class="undecided">{open_}</span>' if open_ else "0"
    tiles.append((waits, f"of {_count(len(findings), 'finding')} still to verify"))
    inside = "".join(f"<div><strong>{value}</strong>{words}</div>" for value, words in tiles)
    return f'<div class="summary">{inside}</div>'


def _source(study: Study) -> str:
    return f"{escape(study.criterion)}: {escape(CRITERIA[study.criterion].source)}."


def _responses(study: Study, course: Course) -> str:
    if not course.responses:
        return ""
    first = total(study, course.names[0]) if any(one.role == "target" for one in study.lesions) else None
    rows = [
        f"<tr><td><b>{escape(course.names[0])}</b><small>{escape(course.dates[0])}</small></td>"
        f'<td class="n">{_sum(first, study)}</td><td></td><td></td><td></td>'
        '<td class="quiet">baseline</td></tr>'
    ]
    for one in course.responses:
        response, order = one.response, course.names.index(one.timepoint)
        rows.append(
            f"<tr><td><b>{escape(one.timepoint)}</b><small>{escape(course.dates[order])}</small></td>"
            f'<td class="n">{_sum(response.total, study)}</td>{_change(response.change_from_baseline, 1)}'
            f"{_change(response.change_from_nadir, 1)}<td>{_pill(one)}</td><td>{_why(one)}</td></tr>"
        )
    said = "".join(f'<p class="undecided">{escape(words)}</p>' for words in course.responses[0].objections)
    return (
        f'<h2>Response, {escape(study.criterion)}</h2><div class="wide"><table><thead><tr><th>Time point</th>'
        f'<th class="n">Sum, {CRITERIA[study.criterion].unit}</th>'
        '<th class="n">From baseline</th><th class="n">From nadir</th><th>Response</th><th>Rule</th></tr></thead>'
        f"{''.join(rows)}</table></div>{said}"
    )


def _sum(value: float | None, study: Study) -> str:
    return millilitres(value) if CRITERIA[study.criterion].unit == "ml" else millimetres(value)


def _why(one: Assessment) -> str:
    said = [escape(one.response.rule)]
    judged = one.non_target_progress
    if judged is not None:
        note = f": {judged.note}" if judged.note else ""
        said.append(escape(f"non-targets judged by {judged.by}{note} ({local_time(judged.at) or 'no time given'})"))
    said += [escape(words) for words in one.remarks]
    words = f"{said[0]}<small>{'; '.join(said[1:])}</small>" if said[1:] else said[0]
    return words + ('<small class="undecided">provisional: rests on proposals</small>' if one.provisional else "")


def _table(study: Study) -> str:
    if not study.lesions:
        return ""
    heads = "".join(
        f'<th class="n">{escape(timepoint.name)}<br>{escape(timepoint.date)}</th>' for timepoint in study.timepoints
    )
    rows = "".join(
        f"<tr><td>{_name(study, lesion)}<small>{escape(_facts(lesion))}</small></td>"
        + "".join(_cell(study, lesion, timepoint.name) for timepoint in study.timepoints)
        + "</tr>"
        for lesion in study.lesions
    )
    return (
        "<h2>Long × short axis, mm, and volume, ml</h2>"
        f'<div class="wide"><table><thead><tr><th>Lesion</th>{heads}</tr></thead>{rows}</table></div>'
    )


def _cell(study: Study, lesion: Lesion, timepoint: str) -> str:
    finding = lesion.findings.get(timepoint)
    if finding is None:
        return f'<td class="n quiet">{NOTHING}</td>'
    first, _ = changes(study, lesion, timepoint)
    size = _size(finding)
    facts = [millilitres(finding.measurement.volume_ml) + " ml"] if size and finding.measurement else []
    facts += [f'<span class="{_direction(first)}">{percent(first)}</span>'] if first is not None else []
    words = size or escape(_state(finding))
    return f'<td class="n">{_dot(finding)}{words}<small>{" · ".join(facts)}</small></td>'


def _lesions(study: Study, pictures: dict[tuple[str, str], str]) -> str:
    out = []
    for lesion in study.lesions:
        figures = "".join(_figure(study, lesion, timepoint, pictures) for timepoint in study.timepoints)
        facts = f'<span class="quiet">{escape(_facts(lesion))}</span>'
        out.append(
            f'<section class="lesion"><h3>{_name(study, lesion)} {facts}</h3><div class="row">{figures}</div></section>'
        )
    return f"<h2>Lesions</h2>{''.join(out)}" if out else ""


def _figure(study: Study, lesion: Lesion, timepoint: Timepoint, pictures: dict[tuple[str, str], str]) -> str:
    finding = lesion.findings.get(timepoint.name)
    picture = pictures.get((lesion.uid, timepoint.name))
    if picture is None:
        words = "not looked for" if finding is None else _state(finding) if not finding.present else "scan not at hand"
        picture = f'<div class="none">{escape(words)}</div>'
    lines = [f"<b>{escape(timepoint.name)}</b> {escape(timepoint.date)}"]
    if finding is not None:
        size = _size(finding)
        if size:
            volume = f" mm, {millilitres(finding.measurement.volume_ml)} ml" if finding.measurement else ""
            lines.append(f"<b>{size}</b>{volume}")
        first, nadir = changes(study, lesion, timepoint.name)
        if first is not None:
            lines.append(f"first {percent(first)}, nadir {percent(nadir)}")
        lines.append(f"{_dot(finding)}{escape(_said(finding))}")
        lines += [f'<span class="undecided">{escape(words)}</span>' for words in _doubts(finding)]
        lines += [escape(finding.comment)] if finding.comment else []
        lines += [when] if (when := escape(local_time(finding.decided_at))) else []
    return f"<figure>{picture}<figcaption>{'<br>'.join(lines)}</figcaption></figure>"


def _said(finding: Finding) -> str:
    """State, and who gave it; of a proposal how sure it is."""
    if finding.decided:
        return f"{_state(finding)}, {finding.decided_by}"
    known = probability(finding)
    what = "gone with" if finding.state == "disappeared" else "confidence"
    sure = f", {what} {known:.0%}" if known is not None else ""
    return f"{_state(finding)}{sure}; to be verified"


def _doubts(finding: Finding) -> list[str]:
    """What a reader must know of a finding before it is believed."""
    out = [f"doubtful, not counted: {'; '.join(finding.plausibility.doubts)}"] if finding.doubtful else []
    return out + ([finding.reason] if finding.reason and not finding.decided else [])


def _state(finding: Finding) -> str:
    if not finding.decided and finding.verdict in ("out of view", "refused"):
        return finding.verdict
    return finding.state if finding.decided or finding.state == "proposed" else f"{finding.state} (proposed)"


def _size(finding: Finding) -> str:
    measured = finding.measurement if finding.present else None
    if measured is None:
        return "too small to measure" if finding.present and finding.too_small else ""
    return f"{measured.long_axis_mm:.1f} × {measured.short_axis_mm:.1f}{' ?' if finding.doubtful else ''}"


def _facts(lesion: Lesion) -> str:
    return ", ".join(word for word in (lesion.role, lesion.organ, "lymph node" if lesion.node else "") if word)


def _name(study: Study, lesion: Lesion) -> str:
    number = next(n for n, one in enumerate(study.lesions) if one.uid == lesion.uid)
    return f'<span class="bar {lesion_class(number)}"></span><b>{escape(lesion.name)}</b>'


def _dot(finding: Finding) -> str:
    return (
        f'<span class="dot{"" if finding.decided else " open"} {state_class(finding.state, finding.decided)}"></span>'
    )


def _pill(one: Assessment) -> str:
    kind = f"pill {category_class(one.response.category)}{' open' if one.provisional else ''}"
    return f'<span class="{kind}">{escape(one.response.category)}</span>'


def _change(value: float | None, digits: int) -> str:
    return f'<td class="n {_direction(value)}">{percent(value, digits)}</td>'


def _direction(value: float | None) -> str:
    if value is None:
        return "quiet"
    return "grown" if value >= PROGRESS else "shrunk" if value <= PARTIAL else ""


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
