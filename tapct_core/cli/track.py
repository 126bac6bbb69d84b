"""``tapct track``: a patient's lesions through all scans of a study, proposed, measured and tabled."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from ..errors import UserError
from .options import add_common_options, embed_from_args, encoder_from_args


def add_parser(commands) -> None:
    """Adds the command to ``tapct``."""
    parser = commands.add_parser(
        "track",
        help="follow all lesions of a study through all its scans",
        description="Matches, grows and measures the lesions of STUDY.json and writes the proposals back into it.",
        epilog=(
            "example:\n  tapct track patient.json --out table.csv\n"
            "  tapct track patient.json --report patient.html\n"
            "  tapct track patient.json --seg masks --sr reports    (DICOM series only)\n\n"
            "What a person has decided in the study is never changed. It is saved after each time point: run it\n"
            "again to continue. How to write a study by hand: docs/follow_up.md. For research only."
        ),
    )
    parser.add_argument("study", type=Path, metavar="STUDY.json")
    parser.add_argument("--out", type=Path, metavar="CSV", help="write the follow-up table to this file")
    parser.add_argument("--report", type=Path, metavar="HTML", help="write a report with pictures, one file")
    parser.add_argument("--sr", type=Path, metavar="DIR", help="write a DICOM SR (TID 1500) for each time point")
    parser.add_argument("--seg", type=Path, metavar="DIR", help="write a DICOM SEG for each time point")
    parser.add_argument("--json", action="store_true", help="machine-readable, to stdout")
    add_common_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Tracks, then writes and prints what was asked for."""
    from ..lesions.assessment import assess
    from ..lesions.study_file import read_study, save_study

    study, known = read_study(args.study)
    _check(args, study)
    save_study(study, args.study, known)  # the tracking UIDs of lesions that were written by hand
    scans = _Scans(args)
    for timepoint in study.timepoints:
        print(f"tapct track: {timepoint.name}", file=sys.stderr)
        study = _track_one(args, study, timepoint.name, scans)
    _export(args, study, scans)
    thickness = scans.volume(study.timepoints[0]).geometry.spacing_mm[0]
    responses = assess(study, thickness)
    if args.json:
        print(json.dumps(_json(study, responses), allow_nan=False))
    elif not args.out:
        _print(study, responses)
    return 0


class _Scans:
    """Volume and features of time points, the two last used kept in memory; others come back from the cache."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.kept = args, {}
        encoder_from_args(args)
        self.patients: dict[str, str] = {}

    def get(self, timepoint):
        if timepoint.name in self.kept:
            self.kept[timepoint.name] = self.kept.pop(timepoint.name)
            return self.kept[timepoint.name]
        from ..lesions.study_file import scan_path

        args = argparse.Namespace(**vars(self.args))
        args.series = timepoint.series_uid or None
        found = embed_from_args(scan_path(self.args.study, timepoint), args)
        self._same_patient(timepoint.name, found[0])
        while len(self.kept) > 1:
            del self.kept[next(iter(self.kept))]
        self.kept[timepoint.name] = found
        return found

    def volume(self, timepoint):
        return self.get(timepoint)[0]

    def features(self, timepoint):
        return self.get(timepoint)[1]

    def _same_patient(self, name: str, volume) -> None:
        key = volume.source.dicom.patient_key if volume.source.dicom else ""
        other = next((n for n, known in self.patients.items() if key and known != key), None)
        if other is not None:
            raise UserError(f"{name} and {other} are scans of different patients; a study holds one patient")
        if key:
            self.patients[name] = key


class _Volumes(Mapping):
    """The scans by time point's name, read when they are asked for."""

    def __init__(self, study, scans: _Scans) -> None:
        self._timepoints, self._scans = {timepoint.name: timepoint for timepoint in study.timepoints}, scans

    def __getitem__(self, name: str):
        return self._scans.volume(self._timepoints[name])

    def __iter__(self):
        return iter(self._timepoints)

    def __len__(self) -> int:
        return len(self._timepoints)


def _check(args: argparse.Namespace, study) -> None:
    from ..io import kind_of
    from ..lesions.study_file import scan_path

    if args.report and args.report.is_dir():
        raise UserError(f"{args.report} is a folder; name the report's file, for example {args.report / 'report.html'}")
    if args.series:
        raise UserError("a study names each scan's series itself; write series_uid at its time point")
    for timepoint in study.timepoints:
        kind = kind_of(scan_path(args.study, timepoint))
        if (args.sr or args.seg) and kind != "dicom":
            raise UserError(
                f"{timepoint.name} is {kind}, not DICOM, so no SEG or SR can refer to it; use the DICOM series, "
                "or write a CSV with --out"
            )
    if not any(found.decided and found.present for lesion in study.lesions for found in lesion.findings.values()):
        raise UserError(f"{args.study.name} has no lesion with a place to start from; give one a point_lps_mm")


def _track_one(args: argparse.Namespace, study, name: str, scans: _Scans):
    """Proposes and measures at one time point, saves, and returns the study as it is on disk now."""
    from ..lesions.tracking import detections, link_detections, proposal_key, propose, source_timepoint

    timepoint = study.timepoints[study.order(name)]
    volume, features = scans.get(timepoint)
    for lesion in study.lesions:
        finding = lesion.findings.get(name)
        if finding is not None and finding.present and not volume.geometry.contains(finding.point_lps_mm):
            raise UserError(f"{lesion.name} lies outside {name}; points are x y z in LPS mm of that scan")
    if args.sr or args.seg:
        from ..export.dicom_source import source_images

        source_images(volume, "SEG or SR")
    found = {}
    sources = [source_timepoint(study, lesion, name) for lesion in study.lesions]
    for source in sorted({s for s in sources if s is not None}, key=study.order, reverse=True):
        before = scans.features(study.timepoints[study.order(source)])
        open_ = [
            lesion.findings.get(name)
            for lesion, s in zip(study.lesions, sources, strict=True)
            if s == source and not (name in lesion.findings and lesion.findings[name].decided)
        ]
        key = proposal_key(study, name, source, before, features)
        marks = [lesion.findings[name] for lesion in detections(study, name)]
        if not all(finding is not None and finding.inputs == key for finding in open_ + marks):
            try:
                found |= propose(study, name, source, before, features)
            except UserError as error:
                raise UserError(f"from {source} to {name}: {error}") from None
    absorbed = link_detections(study, name, found)
    return _saved(args, name, timepoint, volume, features, found, absorbed)


def _saved(args: argparse.Namespace, name: str, timepoint, volume, features, found: dict, absorbed: list[str]):
    """Puts proposals and masks into the study as it is on disk by now (a person may have decided meanwhile)."""
    from ..lesions.study_file import load_study, update_study

    masks = _masks(load_study(args.study), name, volume, features, found)

    def put(study) -> None:
        known = {lesion.uid for lesion in study.lesions}
        for uid, finding in found.items():
            if uid in known:
                study.propose(uid, name, finding)
        for lesion in [one for one in study.lesions if one.uid in absorbed]:
            if not lesion.findings[name].decided and len(lesion.findings) == 1:
                study.lesions.remove(lesion)
        for lesion in study.lesions:
            finding = lesion.findings.get(name)
            if finding is None or finding.measurement is not None or finding.mask is not None:
                continue
            if lesion.uid in masks and masks[lesion.uid][0] == finding.point_lps_mm:
                study.set_mask(lesion.uid, name, masks[lesion.uid][1], volume)
        _fill_in(study, study.timepoints[study.order(name)], volume)

    return update_study(args.study, put)


def _fill_in(study, timepoint, volume) -> None:
    """What the DICOM header knows and the study does not say."""
    series = volume.source.dicom
    if series is not None:
        when = series.date
        timepoint.date = timepoint.date or (f"{when[:4]}-{when[4:6]}-{when[6:]}" if when else "")
        timepoint.series_uid = timepoint.series_uid or series.series_instance_uid
        study.patient_key = study.patient_key or series.patient_key


def _masks(study, name: str, volume, features, found: dict) -> dict:
    """Masks for all that has a place here and no mask: uid -> (point, mask). What cannot be grown is said."""
    from ..lesions.grow import grow_mask

    out = {}
    for lesion in study.lesions:
        known = lesion.findings.get(name)
        finding = known if known is not None and (known.decided or lesion.uid not in found) else found.get(lesion.uid)
        if finding is None or not finding.present or finding.mask is not None or finding.measurement is not None:
            continue
        try:
            mask = grow_mask(volume, finding.point_lps_mm, features)
        except UserError as error:
            print(f"tapct track: {lesion.name} at {name} is not measured: {error}", file=sys.stderr)
            continue
        out[lesion.uid] = finding.point_lps_mm, mask
    return out


def _export(args: argparse.Namespace, study, scans: _Scans) -> None:
    if args.out:
        from ..export import write_csv

        write_csv(study, args.out)
    if args.report:
        from ..export import write_report

        write_report(study, _Volumes(study, scans), args.report)
    if not (args.sr or args.seg):
        return
    from ..export import write_seg, write_sr

    for number, timepoint in enumerate(study.timepoints, start=1):
        here = [lesion.findings[timepoint.name] for lesion in study.lesions if timepoint.name in lesion.findings]
        stem = f"{number:02d}_{re.sub(r'[^A-Za-z0-9-]+', '_', timepoint.name)[:40]}"
        if args.seg and any(finding.mask is not None for finding in here):
            write_seg(study, timepoint.name, scans.volume(timepoint), args.seg / f"{stem}_seg.dcm")
        if args.sr and any(finding.present or finding.state in ("not present", "disappeared") for finding in here):
            write_sr(study, timepoint.name, scans.volume(timepoint), args.sr / f"{stem}_sr.dcm")


def _json(study, responses) -> dict:
    from dataclasses import asdict

    from ..export.csv import rows

    return {
        "patient_key": study.patient_key,
        "notice": "for research use only; not a diagnosis",
        "findings": [{key: value if value != "" else None for key, value in row.items()} for row in rows(study)],
        "responses": [
            {key: value for key, value in asdict(one).items() if key != "response"} | asdict(one.response)
            for one in responses
        ],
    }


def _print(study, responses) -> None:
    from ..export.csv import rows

    out = sys.stdout
    out.write(
        f"{'lesion':16s} {'time point':16s} {'status':12s} {'long mm':>8s} {'short mm':>8s} {'ml':>8s}  decided by\n"
    )
    for row in rows(study):
        out.write(
            f"{row['lesion'][:16]:16s} {row['timepoint'][:16]:16s} {row['match_status']:12s} "
            f"{row['long_axis_mm'] or '-':>8s} {row['short_axis_mm'] or '-':>8s} {row['volume_ml'] or '-':>8s}"
            f"  {row['accepted_by'] or '-'}\n"
        )
    for one in responses:
        said = " (provisional: rests on proposals)" if one.provisional else ""
        out.write(f"{one.timepoint}: {one.response.category}, {one.response.rule}{said}\n")
        for objection in one.objections:
            out.write(f"  RECIST 1.1: {objection}\n")
    out.write("For research use only; not a diagnosis.\n")
