"""``tapct track``: a patient's lesions through all scans of a study, proposed, measured and tabled."""

from __future__ import annotations

import argparse
import json
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
    parser.add_argument(
        "--deidentify",
        action="store_true",
        help="leave the patient out of what is written and printed, after DICOM PS3.15's basic profile; scans and "
        "lesions are numbered",
    )
    parser.add_argument("--json", action="store_true", help="machine-readable, to stdout")
    add_common_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Tracks, then writes and prints what was asked for."""
    from ..lesions.assessment import assess
    from ..lesions.propagation import refusals, run_all, summary
    from ..lesions.study_file import read_study, save_study, update_study

    study, known = read_study(args.study)
    _check(args, study)
    save_study(study, args.study, known)  # the tracking UIDs of lesions that were written by hand
    scans = _Scans(args, study)
    for step in run_all(study, scans):
        volume = scans.volume(step.timepoint)

        def put(saved, step=step, volume=volume) -> None:  # a person may have decided meanwhile
            step.put_into(saved)
            step.notes.extend(_fill_in(saved, step.timepoint, volume))

        saved = update_study(args.study, put)
        study.patient_key, study.timepoints, study.lesions = saved.patient_key, saved.timepoints, saved.lesions
        if step.findings:
            print(f"tapct track: {step.timepoint}: {summary(step.findings.values())}", file=sys.stderr)
        for note in step.notes + refusals(study, step):
            print(f"tapct track: {note}", file=sys.stderr)
        if step.failures:
            raise UserError(step.failures[0])
    _export(args, study, scans)
    slice_mm = scans.volume(study.timepoints[0].name).geometry.spacing_mm[0]
    if args.deidentify:
        from ..export.deidentify import without_patient

        study = without_patient(study)
    responses = assess(study, slice_mm)
    if args.json:
        print(json.dumps(_json(study, responses), allow_nan=False))
    elif not args.out:
        _print(study, responses)
    return 0


class _Scans(Mapping):
    """A study's scans by time point's name, read when they are asked for, as volumes and with their features.

    The two last used are kept in memory; the features of others come back from the cache.
    """

    def __init__(self, args: argparse.Namespace, study) -> None:
        self.args, self.study, self.kept = args, study, {}
        encoder_from_args(args)
        self.patients: dict[str, str] = {}

    def __getitem__(self, name: str):
        return self._get(name)[0]

    def __contains__(self, name: object) -> bool:
        return any(timepoint.name == name for timepoint in self.study.timepoints)

    def __iter__(self):
        return iter([timepoint.name for timepoint in self.study.timepoints])

    def __len__(self) -> int:
        return len(self.study.timepoints)

    def volume(self, name: str):
        return self[name]

    def features(self, name: str):
        return self._get(name)[1]

    def maps(self, before: str, after: str):
        return self.features(before), self.features(after)

    def _get(self, name: str):
        if name in self.kept:
            self.kept[name] = self.kept.pop(name)
            return self.kept[name]
        from ..lesions.study_file import scan_path

        print(f"tapct track: {name}", file=sys.stderr)
        timepoint = self.study.timepoints[self.study.order(name)]
        args = argparse.Namespace(**vars(self.args))
        args.series = timepoint.series_uid or None
        for key, value in timepoint.reading.items():
            setattr(args, key, value)
        found = embed_from_args(scan_path(self.args.study, timepoint), args)
        self._check(name, found[0])
        while len(self.kept) > 1:
            del self.kept[next(iter(self.kept))]
        self.kept[name] = found
        return found

    def _check(self, name: str, volume) -> None:
        """Raises UserError for a scan that the study's lesions, its other scans or what is asked for do not suit."""
        key = volume.source.dicom.patient_key if volume.source.dicom else ""
        other = next((n for n, known in self.patients.items() if key and known != key), None)
        if other is not None:
            raise UserError(f"{name} and {other} are scans of different patients; a study holds one patient")
        if key:
            self.patients[name] = key
        for lesion in self.study.lesions:
            finding = lesion.findings.get(name)
            if finding is not None and finding.present and not volume.geometry.contains(finding.point_lps_mm):
                raise UserError(f"{lesion.name} lies outside {name}; points are x y z in LPS mm of that scan")
        if self.args.sr or self.args.seg:
            from ..export.dicom_source import source_images

            source_images(volume, "SEG or SR")


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


def _fill_in(study, name: str, volume) -> list[str]:
    """What the DICOM header knows and the study does not say; why something of it was left out."""
    from ..lesions.timepoints import fill_in_date
    from ..patient_key import current_key

    series, timepoint = volume.source.dicom, study.timepoints[study.order(name)]
    if series is None:
        return []
    timepoint.series_uid = timepoint.series_uid or series.series_instance_uid
    study.patient_key = current_key(study.patient_key) or series.patient_key
    return [note] if (note := fill_in_date(study, name, series.date)) else []


def _export(args: argparse.Namespace, study, scans: _Scans) -> None:
    from ..export import write_csv, write_report
    from ..export.folder import dicom_files, for_tables, held

    told, pictured = for_tables(study, scans) if args.deidentify else (study, scans)
    if args.out:
        write_csv(told, args.out)
    if args.report:
        write_report(told, pictured, args.report)
    for _, write in dicom_files(study, scans, args.seg, args.sr, args.deidentify):
        write()
    remedy = "" if args.deidentify else " (--deidentify leaves them out)"
    for line in held(bool(args.seg or args.sr), bool(args.out or args.report), args.deidentify):
        print(f"tapct track: {line}{remedy}", file=sys.stderr)


def _json(study, responses) -> dict:
    from dataclasses import asdict

    from ..export.csv import rows

    return {
        "patient_key": study.patient_key,
        "criterion": study.criterion,
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
            out.write(f"  {study.criterion}: {objection}\n")
        for remark in one.remarks:
            out.write(f"  {remark}\n")
    out.write("For research use only; not a diagnosis.\n")
