"""Measurement reports, TID 1500: each measurement group a finding, with its tracking UID, regions and measurements.

Regions may be coordinates in an image or in the patient, drawn round the lesion or along its axes, on the group or
under a measurement; or a segment of a SEG, which then has to be imported along.
Standard: DICOM PS3.16 TID 1500, 1410, 1411, 1501; PS3.3 C.18.6 (coordinates).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import UserError
from ..io.dicom_slices import text
from ..lesions import ABSENT, ROLES, STATES
from .found import Found, InSpace, OnImage, made_uid

GROUP = "125007"
"""DCM code of a Measurement Group."""
TRACKING_NAME, TRACKING_UID = "112039", "112040"
PROPOSED = " (proposed)"
"""What our own reports add to a match status that nobody has decided."""


def read_sr(dataset: Any, name: str) -> list[Found]:
    """Findings in the order of the report. Raises UserError for a report without measurement groups."""
    groups = [item for item in _items(dataset) if _code(item) == GROUP]
    if not groups:
        raise UserError(f"{name} is a report without measurement groups (TID 1500); nothing can be read from it")
    series, images = set(), set()
    for study in dataset.get("CurrentRequestedProcedureEvidenceSequence") or []:
        for one in study.get("ReferencedSeriesSequence") or []:
            series.add(text(one, "SeriesInstanceUID"))
            images |= {text(sop, "ReferencedSOPInstanceUID") for sop in one.get("ReferencedSOPSequence") or []}
    uid = text(dataset, "SOPInstanceUID")
    where = frozenset(series - {""}), frozenset(images - {""})
    return [_group(group, name, uid, k, *where) for k, group in enumerate(groups, start=1)]


def _group(group: Any, file: str, uid: str, number: int, series: frozenset, images: frozenset) -> Found:
    items = list(_items(group))
    said = {_code(item): item for item in items}
    tracking = text(said[TRACKING_UID], "UID") if TRACKING_UID in said else ""
    name = text(said[TRACKING_NAME], "TextValue") if TRACKING_NAME in said else ""
    what = [region for item in items if (region := _region(item)) is not None]
    status = _meaning(said.get("MATCH_STATUS"))
    state = status.removesuffix(PROPOSED)
    role = _meaning(said.get("LESION_ROLE"))
    return Found(
        file,
        name or f"group {number}",
        tracking or made_uid(uid, number),
        tuple(sorted(what, key=lambda one: one.graphic in ("POINT", "MULTIPOINT"))),
        series,
        images | {one.sop_instance_uid for one in what if isinstance(one, OnImage)},
        next((text(item, "ReferencedFrameOfReferenceUID") for item in items if _type(item) == "SCOORD3D"), ""),
        segment=next((one for item in items if (one := _segment(item)) is not None), None),
        state=state if state in STATES and state in ABSENT else "",
        decided=not status.endswith(PROPOSED) and status != "proposed",
        role=role if role in ROLES else "",
        organ=_meaning(said.get("LOCATION")) or _meaning(said.get("363698007")),
        comment=text(said["121106"], "TextValue") if "121106" in said else "",
        drawn=_meaning(said.get("AXES")) == "drawn by hand",
        measurements=dict(one for item in items if (one := _measurement(item)) is not None),
    )


def _items(node: Any) -> Iterator[Any]:
    """All content items below a node, without those of the groups below it."""
    for item in node.get("ContentSequence") or []:
        yield item
        if _code(item) != GROUP:
            yield from _items(item)


def _type(item: Any) -> str:
    return text(item, "ValueType").upper()


def _code(item: Any) -> str:
    names = item.get("ConceptNameCodeSequence") or []
    return text(names[0], "CodeValue") if names else ""


def _meaning(item: Any) -> str:
    values = (item.get("ConceptCodeSequence") if item is not None else None) or []
    return text(values[0], "CodeMeaning") if values else ""


def _region(item: Any) -> OnImage | InSpace | None:
    kind, graphic = _type(item), text(item, "GraphicType").upper()
    if kind == "SCOORD3D":
        return InSpace(graphic, np.array(item.GraphicData, float).reshape(-1, 3))
    if kind == "SCOORD":
        refs = [ref for child in item.get("ContentSequence") or [] for ref in child.get("ReferencedSOPSequence") or []]
        uid = text(refs[0], "ReferencedSOPInstanceUID") if refs else ""
        frame = text(refs[0], "ReferencedFrameNumber").split("\\")[0] if refs else ""
        return OnImage(graphic, np.array(item.GraphicData, float).reshape(-1, 2), uid, int(frame or 0))
    return None


def _segment(item: Any) -> tuple[str, int] | None:
    for ref in item.get("ReferencedSOPSequence") or []:
        number = text(ref, "ReferencedSegmentNumber").split("\\")[0]
        if number:
            return text(ref, "ReferencedSOPInstanceUID"), int(number)
    return None


def _measurement(item: Any) -> tuple[str, float] | None:
    values = (item.get("MeasuredValueSequence") or []) if _type(item) == "NUM" else []
    if not values or not text(values[0], "NumericValue"):
        return None
    units = values[0].get("MeasurementUnitsCodeSequence") or []
    names = item.get("ConceptNameCodeSequence") or []
    unit = text(units[0], "CodeValue") if units else ""
    return f"{text(names[0], 'CodeMeaning') if names else 'value'} ({unit})", float(text(values[0], "NumericValue"))
