"""A Study as JSON, and back, with every word of it checked.

What is wrong is a UserError that names the place in the file. A point written without a state counts as decided by who
wrote the file, and as new where it is the lesion's first and not at the baseline. Masks are packed bits (zlib, base64).
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import zlib
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..files import LARGEST, largest_bytes
from ..patient_key import current_key
from .criteria import CRITERIA
from .finding import Candidate, Finding, Mask, Plausibility
from .recist import Measurement
from .states import STATES
from .study import RECIST, ROLES, Judgement, Lesion, Study, Timepoint, new_uid
from .timepoints import calendar_date, snapshot

SCHEMA, VERSION = "napari-tapct study", 4
"""Version 2 added what a person says of the non-targets of a time point. Version 3 added the criterion, how plausible a
measurement is and who confirmed it, reasons, comments, and what a person says of what came back. Version 4 added
axes that a person has drawn, which have a volume and HU only where there is a mask. Files of earlier versions are read
as they are."""
NOTICE = "for research use only; not a diagnosis"
LARGEST_MASK = 2**28
"""Voxels of a mask's box; more in a file is damage."""
MASKS_SHARE = 16
"""All masks of a study together may take a 16th of what a scan may (:func:`~tapct_core.files.largest_bytes`)."""
FARTHEST_MM = 1e5
"""From the scanner's origin; no table goes so far."""
_NUMBERS = re.compile(r"\[\n\s+(-?[\d.eE+-]+(?:,\n\s+-?[\d.eE+-]+)*)\n\s+\]")
"""A list of numbers over several lines; no string of JSON holds a line break."""


def study_json(study: Study) -> str:
    """The file's text: one key a line, triples on one line."""
    data = {"schema": SCHEMA, "version": VERSION, "notice": NOTICE, "patient_key": current_key(study.patient_key)}
    data["criterion"] = study.criterion
    data["timepoints"] = [_timepoint_json(timepoint) for timepoint in study.timepoints]
    data["lesions"] = [_lesion_json(lesion) for lesion in study.lesions]
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
    return _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"


def require_readable(study: Study) -> None:
    """Raises UserError for a study that could not be read again from what :func:`study_json` writes of it."""
    study_of(json.loads(study_json(_without_masks(study))))
    _require_masks_fit({"lesions": [{"findings": _mask_shapes(lesion)} for lesion in study.lesions]})


def _without_masks(study: Study) -> Study:
    """What can be wrong in a file is in the words and numbers; masks are packed from what was checked already."""
    bare = snapshot(study)
    for lesion in bare.lesions:
        lesion.findings = {name: replace(found, mask=None) for name, found in lesion.findings.items()}
    return bare


def _mask_shapes(lesion: Lesion) -> dict:
    masks = {name: found.mask for name, found in lesion.findings.items() if found.mask is not None}
    return {name: {"mask": {"shape": list(mask.voxels.shape)}} for name, mask in masks.items()}


def _timepoint_json(timepoint: Timepoint) -> dict[str, Any]:
    facts = asdict(timepoint)
    for key in _JUDGEMENTS:
        if facts[key] is not None:
            facts[key] = _short(facts[key])
    return _short(facts)


def _lesion_json(lesion: Lesion) -> dict[str, Any]:
    facts = {"name": lesion.name, "uid": lesion.uid, "role": lesion.role, "organ": lesion.organ, "node": lesion.node}
    return _short(facts) | {"findings": {name: _finding_json(found) for name, found in lesion.findings.items()}}


def _finding_json(finding: Finding) -> dict[str, Any]:
    plain = {f.name: getattr(finding, f.name) for f in fields(Finding)}
    plain["candidates"] = [_short(asdict(candidate)) for candidate in finding.candidates]
    plain["measurement"] = None if finding.measurement is None else asdict(finding.measurement)
    plain["mask"] = None if finding.mask is None else _mask_json(finding.mask)
    plain["plausibility"] = None if finding.plausibility is None else asdict(finding.plausibility)
    return _rounded(_short(plain))


def _mask_json(mask: Mask) -> dict[str, Any]:
    bits = base64.b64encode(zlib.compress(np.packbits(mask.voxels).tobytes(), 9)).decode()
    return {"grid": list(mask.grid), "start": list(mask.start), "shape": list(mask.voxels.shape), "bits": bits}


def _short(facts: dict[str, Any]) -> dict[str, Any]:
    """Without what says nothing: None, empty words and lists, False."""
    return {key: value for key, value in facts.items() if value or (value == 0 and value is not False)}


def _rounded(value: Any) -> Any:
    """Floats to a micrometre (or millionth), for a person to read."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(one) for one in value]
    return round(float(value), 6) if isinstance(value, float | np.floating) else value


def study_of(data: Any) -> Study:
    """The study that parsed JSON says. Raises UserError."""
    version = data.get("version", VERSION) if isinstance(data, dict) else VERSION
    if type(version) is int and version > VERSION:  # before its keys, which are unknown for that very reason
        raise UserError(
            f"this study was written by a newer version ({version}, known is {VERSION}); update napari-tapct"
        )
    _object(data, "the file", _KEYS)
    if data.get("schema", SCHEMA) != SCHEMA or type(version) is not int or version < 1:
        raise UserError(f"this is no {SCHEMA!r} file with a version from 1; see docs/follow_up.md")
    timepoints = [_timepoint(one, f"timepoints[{i}]") for i, one in enumerate(_list(data, "timepoints"))]
    names = [timepoint.name for timepoint in timepoints]
    if not timepoints or len(set(names)) < len(names):
        raise UserError("timepoints needs at least one scan, each with its own name")
    dates = [timepoint.date for timepoint in timepoints if timepoint.date]
    if dates != sorted(dates):
        raise UserError("timepoints must stand in the order of their dates, the baseline first")
    _require_masks_fit(data)
    lesions = [_lesion(one, f"lesions[{i}]", names) for i, one in enumerate(_list(data, "lesions"))]
    if len({lesion.uid for lesion in lesions}) < len(lesions):
        raise UserError("two lesions have the same uid; leave uid out of the one that was copied")
    criterion = _text(data, "criterion", "the file") or RECIST
    if criterion not in CRITERIA:
        raise UserError(f"criterion is {criterion!r}; it is one of {', '.join(CRITERIA)}")
    return Study(_text(data, "patient_key", "the file"), timepoints, lesions, criterion)


_KEYS = ("schema", "version", "notice", "patient_key", "criterion", "timepoints", "lesions")
_JUDGEMENTS = ("non_target_progress", "no_recurrence")


def _require_masks_fit(data: dict) -> None:
    """Raise UserError where the boxes of all masks together are more than a study may take, before any is unpacked."""
    shapes = [
        found["mask"].get("shape")
        for lesion in _list(data, "lesions")
        if isinstance(lesion, dict) and isinstance(lesion.get("findings"), dict)
        for found in lesion["findings"].values()
        if isinstance(found, dict) and isinstance(found.get("mask"), dict)
    ]
    held = sum(
        math.prod(abs(n) for n in shape)
        for shape in shapes
        if isinstance(shape, list) and all(type(n) is int for n in shape)
    )
    limit = largest_bytes() // MASKS_SHARE
    if held > limit:
        raise UserError(
            f"its masks' boxes hold {held:,} voxels together and the limit is {limit:,}; if they are right, set the "
            f"environment variable {LARGEST} higher"
        )


def _timepoint(data: Any, where: str) -> Timepoint:
    _object(data, where, ("name", "path", "date", "series_uid", "reading", *_JUDGEMENTS))
    facts = {key: _text(data, key, where) for key in ("name", "path", "date", "series_uid")}
    if not facts["path"] or "\0" in facts["path"]:
        raise UserError(f"{where} has no path; name its CT file or DICOM folder")
    facts["name"] = facts["name"] or Path(facts["path"]).name
    if facts["date"] and calendar_date(facts["date"]) != facts["date"]:
        raise UserError(f"{where}.date is {facts['date']!r}; write it as YYYY-MM-DD")
    facts["reading"] = _reading(data.get("reading"), f"{where}.reading")
    return Timepoint(**facts, **{key: _judgement(data.get(key), f"{where}.{key}") for key in _JUDGEMENTS})


def _reading(said: Any, where: str) -> dict[str, float]:
    """What a person said of a scan that does not open without."""
    if said is None:
        return {}
    _object(said, where, ("hu_offset", "phase", "resample"))
    _number(said, "hu_offset", where)
    phase = said.get("phase", 1)
    if type(phase) is not int or phase < 1 or said.get("resample", True) is not True:
        raise UserError(f"{where} is not right; phase is a whole number from 1, and resample true")
    return dict(said)


def _judgement(said: Any, where: str) -> Judgement | None:
    """What a person said; ``{"by": "AB"}`` is enough."""
    if said is None:
        return None
    _object(said, where, ("by", "at", "note"))
    facts = {key: _text(said, key, where) for key in ("by", "at", "note")}
    if not facts["by"].strip():
        raise UserError(f'{where} does not say who judged; write "by": initials or a role')
    return Judgement(**facts)


def _lesion(data: Any, where: str, timepoints: list[str]) -> Lesion:
    _object(data, where, ("name", "uid", "role", "organ", "node", "findings"))
    facts = {key: _text(data, key, where) for key in ("name", "uid", "role", "organ")}
    if facts["role"] not in ROLES:
        raise UserError(f"{where}.role is {facts['role']!r}; write target or non-target, or leave it out")
    if not isinstance(data.get("node", False), bool):
        raise UserError(f"{where}.node is true or false")
    facts["uid"] = facts["uid"] or new_uid()
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)+", facts["uid"]) or len(facts["uid"]) > 64:
        raise UserError(f"{where}.uid is no DICOM UID; leave it out and one is made")
    facts["name"] = facts["name"] or where
    found = _object(data.get("findings", {}), f"{where}.findings", timepoints, "time points")
    findings = {name: _finding(one, f"{where}.findings.{name}") for name, one in found.items()}
    first = next((name for name in timepoints if name in findings), timepoints[0])
    if first != timepoints[0] and findings[first].point_lps_mm and not found[first].get("state"):
        findings[first].state = "new"
    return Lesion(node=data.get("node", False), findings=findings, **facts)


def _finding(data: Any, where: str) -> Finding:
    _object(data, where, [f.name for f in fields(Finding)])
    facts: dict[str, Any] = {key: _text(data, key, where) for key in _WORDS}
    facts |= {key: _number(data, key, where) for key in _NUMBERS_OF_FINDING}
    facts["point_lps_mm"] = _triple(data.get("point_lps_mm"), f"{where}.point_lps_mm")
    if not facts["state"]:  # written by hand
        facts["state"] = "accepted" if facts["point_lps_mm"] else "proposed"
        facts["decided_by"] = facts["decided_by"] or ("study file" if facts["point_lps_mm"] else "")
    if facts["state"] not in STATES:
        raise UserError(f"{where}.state is {facts['state']!r}; it is one of {', '.join(STATES)}")
    if facts["decided_by"] and facts["state"] in ("accepted", "moved", "new") and facts["point_lps_mm"] is None:
        raise UserError(f"{where} is {facts['state']} but has no point_lps_mm; give x, y, z in LPS mm")
    facts["candidates"] = tuple(_candidate(one, where) for one in _list(data, "candidates"))
    facts["related"] = tuple(str(uid) for uid in _list(data, "related"))
    facts["measurement"] = _built(_measurement, data.get("measurement"), f"{where}.measurement")
    facts["mask"] = _built(_mask, data.get("mask"), f"{where}.mask")
    facts["plausibility"] = _built(_plausibility, data.get("plausibility"), f"{where}.plausibility")
    facts["too_small"] = data.get("too_small", False)
    if not isinstance(facts["too_small"], bool):
        raise UserError(f"{where}.too_small is true or false")
    return Finding(**facts)


_WORDS = ("state", "decided_by", "decided_at", "verdict", "mask_by", "inputs", "reason", "measured_by", "comment")
_NUMBERS_OF_FINDING = ("cycle_error_mm", "confidence", "presence")


def _candidate(data: Any, where: str) -> Candidate:
    where = f"{where}.candidates"
    _object(data, where, [f.name for f in fields(Candidate)])
    point = _triple(data.get("point_lps_mm"), where)
    if point is None:
        raise UserError(f"{where} has an entry without point_lps_mm")
    numbers = {key: _number(data, key, where) for key in ("similarity", "cycle_error_mm", "confidence")}
    return Candidate(point, numbers["similarity"] or 0.0, numbers["cycle_error_mm"], numbers["confidence"])


def _built(build: Callable[[Any], Any], data: Any, where: str) -> Any:
    """A part that programs write; whatever is wrong with it is one line."""
    try:
        return None if data is None else build(data)
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error, zlib.error):
        raise UserError(f"{where} is damaged; remove it, and it is made again") from None


def _measurement(data: dict) -> Measurement:
    numbers = {f.name: _number(data, f.name, "") for f in fields(Measurement)[:5]}
    drawn = data.get("drawn", False)
    needed = ("long_axis_mm", "short_axis_mm") if drawn is True else tuple(numbers)
    if None in (numbers[key] for key in needed) or type(data["slice_index"]) is not int or type(drawn) is not bool:
        raise ValueError("no number")
    ends = {key: tuple(_triple(end, key) for end in data[key]) for key in ("long_axis_ends", "short_axis_ends")}
    return Measurement(**numbers, slice_index=data["slice_index"], **ends, drawn=drawn)


def _plausibility(data: dict) -> Plausibility:
    doubts = data["doubts"]
    if not isinstance(doubts, list) or not all(isinstance(words, str) for words in doubts):
        raise ValueError("doubts")
    return Plausibility(float(data["value"]), tuple(doubts))


def _mask(data: dict) -> Mask:
    grid, start, shape = (tuple(int(n) for n in data[key]) for key in ("grid", "start", "shape"))
    size = math.prod(shape)
    if not 0 < size <= LARGEST_MASK or any(s < 0 or s + n > g for s, n, g in zip(start, shape, grid, strict=True)):
        raise ValueError("box")
    unpack = zlib.decompressobj()
    packed = unpack.decompress(base64.b64decode(data["bits"], validate=True), (size + 7) // 8)
    if len(packed) != (size + 7) // 8:
        raise ValueError("cut")
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=size)
    if not bits.any():
        raise ValueError("empty")
    return Mask(start, bits.astype(bool).reshape(shape), grid)


def _object(data: Any, where: str, known, what: str = "keys") -> dict:
    if not isinstance(data, dict):
        raise UserError(f"{where} must be an object in braces")
    for key in data:
        if key not in known:
            raise UserError(f"{where} has {key!r}, but its {what} are {', '.join(known)}")
    return data


def _list(data: dict, key: str) -> list:
    value = data.get(key, [])
    if not isinstance(value, list):
        raise UserError(f"{key} must be a list in brackets")
    return value


def _text(data: dict, key: str, where: str) -> str:
    value = data.get(key, "")
    if not isinstance(value, str):
        raise UserError(f"{where}.{key} must be words in quotes")
    return value


def _number(data: dict, key: str, where: str) -> float | None:
    value = data.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise UserError(f"{where}.{key} must be a number")
    return float(value)


def _triple(value: Any, where: str) -> tuple[float, float, float] | None:
    if value is None:
        return None
    good = isinstance(value, list) and len(value) == 3
    if not good or not all(type(c) in (int, float) and abs(c) <= FARTHEST_MM for c in value):
        raise UserError(f"{where} must be three numbers, x, y, z in LPS mm")
    return tuple(float(c) for c in value)
