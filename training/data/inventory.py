"""Whose scans a store holds: manufacturer, sex, age, slice thickness, kernel, region, as table and picture.

Repeats what figure 3 of the TAP-CT paper (arXiv 2512.00872) shows of its data: manufacturer, sex and age;
the rest is what decides how a CT looks. Only what headers say is counted; NIfTI says nothing of the patient.
"""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import zarr

from tapct_core.atomic import atomic_path
from tapct_core.volume import CTVolume

from .crop_store import ScanInfo

UNSTATED = "not stated"
COLUMNS = ("manufacturer", "sex", "age", "slice_mm", "kernel", "region", "contrast")
_TAGS = {
    "manufacturer": "Manufacturer",
    "sex": "PatientSex",
    "age": "PatientAge",
    "kernel": "ConvolutionKernel",
    "region": "BodyPartExamined",
    "contrast": "ContrastBolusAgent",
}


def header_words(volume: CTVolume) -> dict[str, str]:
    """What a scan says of itself, as words without a name, a date or an identifier; keys are COLUMNS and "kind".

    Age in DICOM is like 064Y; the slice thickness is the distance between slices, which every format has.
    """
    words = dict.fromkeys(COLUMNS, UNSTATED) | {"kind": volume.source.kind}
    words["slice_mm"] = f"{volume.geometry.spacing_mm[0]:.2f}"
    if volume.source.dicom is not None:
        from pydicom.multival import MultiValue

        from tapct_core.io.dicom_opening import open_dicom

        header = open_dicom(volume.source.dicom.files[0], list(_TAGS.values()))
        for column, tag in _TAGS.items():
            value = header.get(tag)
            text = value[0] if isinstance(value, list | MultiValue) and value else value
            if text not in (None, "", []):
                words[column] = str(text).strip()[:40]
        if words["contrast"] != UNSTATED:
            words["contrast"] = "agent given"
    return words


def write_inventory(store: Path, scans: list[ScanInfo]) -> None:
    """Write inventory.csv (a line a scan) and inventory.png (a panel a column) into the store."""
    rows = []
    for scan in scans:
        header = zarr.open_array(store / "scans" / f"{scan.scan_id}.zarr", mode="r", zarr_format=3).attrs["header"]
        rows.append(
            {"scan": scan.scan_id, "kind": header.get("kind", ""), **{c: header.get(c, UNSTATED) for c in COLUMNS}}
        )
    with atomic_path(store / "inventory.csv") as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["scan", "kind", *COLUMNS])
        writer.writeheader()
        writer.writerows(rows)
    draw_inventory(rows, store / "inventory.png")


def age_band(age: str) -> str:
    """A DICOM age such as 064Y, 018M or 003D -> the decade it falls in, "60-69"."""
    number, unit = age[:-1], age[-1:].upper()
    if not number.isdigit() or unit not in "YMWD":
        return UNSTATED
    years = int(number) / {"Y": 1, "M": 12, "W": 52, "D": 365}[unit]
    decade = int(years // 10 * 10)
    return f"{decade}-{decade + 9}"


def slice_band(millimetres: str) -> str:
    """Slice distance in mm -> the band it falls in."""
    value = float(millimetres)
    for limit, name in ((1.0, "up to 1 mm"), (2.0, "1-2 mm"), (3.0, "2-3 mm"), (5.0, "3-5 mm")):
        if value <= limit + 1e-6:
            return name
    return "over 5 mm"


def tally(rows: list[dict[str, str]], column: str, most: int = 10) -> list[tuple[str, int]]:
    """Counts of a column's values: bands in their order, words by frequency, the tail as "others"."""
    band = {"age": age_band, "slice_mm": slice_band}.get(column, str)
    counts = Counter(band(row[column]) for row in rows)
    if column == "age":
        return sorted(
            counts.items(),
            key=lambda item: (item[0] == UNSTATED, int(item[0].split("-")[0]) if item[0][0].isdigit() else 0),
        )
    if column == "slice_mm":
        order = ["up to 1 mm", "1-2 mm", "2-3 mm", "3-5 mm", "over 5 mm"]
        return [(name, counts[name]) for name in order if counts[name]]
    common = counts.most_common()
    rest = sum(count for _, count in common[most:])
    return common[:most] + ([("others", rest)] if rest else [])


def draw_inventory(rows: list[dict[str, str]], path: Path) -> None:
    """One panel of horizontal bars a column."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6), layout="constrained")
    FigureCanvasAgg(figure)
    titles = {"slice_mm": "distance between slices", "age": "age (years)"}
    for axes, column in zip(figure.subplots(2, 4).flat, [*COLUMNS, None], strict=True):
        if column is None:
            axes.axis("off")
            axes.text(0, 1, f"{len(rows)} scans", va="top", fontsize=14)
            continue
        bars = tally(rows, column)[::-1]
        axes.barh([name[:24] for name, _ in bars], [count for _, count in bars], color="#4477aa")
        axes.set_title(titles.get(column, column))
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as part:
        figure.savefig(part, dpi=110)
