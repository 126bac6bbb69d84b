"""``tapct import``: other people's segmentations, contours, reports and points into a study."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..errors import UserError


def add_parser(commands) -> None:
    """Adds the command to ``tapct``."""
    parser = commands.add_parser(
        "import",
        help="findings of other programs into a study",
        description=(
            "Turns DICOM SEG, RTSTRUCT and SR (TID 1500), label maps and tables of points into lesions of STUDY.json, "
            "at the time point whose series or frame of reference they name. What cannot be placed is listed."
        ),
        epilog=(
            "example:\n  tapct import patient.json seg.dcm report.dcm\n"
            "  tapct import patient.json lesions.nii.gz --timepoint baseline\n\n"
            "A CSV has the columns name,x,y,z (LPS mm) and, where wanted, timepoint, uid, role and organ.\n"
            "What a person has decided in the study is never changed. For research only."
        ),
    )
    parser.add_argument("study", type=Path, metavar="STUDY.json")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="SEG, RTSTRUCT, SR, label map or CSV")
    parser.add_argument("--timepoint", default="", metavar="NAME", help="where findings go that do not say so")
    parser.add_argument("--json", action="store_true", help="machine-readable, to stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Imports, saves, and says what became of each finding."""
    from ..imports import import_findings
    from ..io import load_ct
    from ..lesions.study_file import read_study, save_study, scan_path
    from ..lesions.timepoints import how_to_read

    study, known = read_study(args.study)
    by_name = {timepoint.name: timepoint for timepoint in study.timepoints}

    def load(name: str):
        timepoint = by_name[name]
        path = scan_path(args.study, timepoint)
        return load_ct(path, **how_to_read(timepoint, path))

    placed = import_findings(study, args.files, load, args.timepoint)
    hint = ""
    if any(one.failed and not one.found.names_a_scan for one in placed):
        hint = "name the time point of findings that do not say so with --timepoint"
    rows = [
        {"file": one.found.file, "lesion": one.found.name, "timepoint": one.timepoint, "result": one.done}
        for one in placed
    ]
    if all(one.failed for one in placed):
        reasons = "; ".join(dict.fromkeys(f"{row['lesion']}: {row['result']}" for row in rows))
        raise UserError("; ".join(word for word in (f"nothing could be placed: {reasons}", hint) if word))
    save_study(study, args.study, known)
    if hint:
        print(f"tapct import: {hint}", file=sys.stderr)
    if args.json:
        print(json.dumps({"placed": [row for row in rows if row["timepoint"]],
                          "not_placed": [row for row in rows if not row["timepoint"]]}))  # fmt: skip
        return 0
    for row in rows:
        print(f"{row['lesion'][:24]:24s} {row['timepoint'][:16] or 'not placed':16s} {row['result']}")
    return 0
