"""``tapct pacs``: find a patient's CTs in a PACS, get them, send SEG and SR back; over DICOMweb."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from ..errors import UserError
from .options import progress_bar


def add_parser(commands) -> None:
    """Adds the command, with one of its own for each direction."""
    parser = commands.add_parser(
        "pacs",
        help="CTs from a PACS, SEG and SR back to it",
        description=(
            "Talks DICOMweb with the server of --server, or of the environment variable TAPCT_PACS. User and password "
            "come from TAPCT_PACS_USER and TAPCT_PACS_PASSWORD (or TAPCT_PACS_TOKEN), or from the system's keyring "
            "(keyring set ADDRESS USER). Nothing else in tapct uses the network to reach patients' data."
        ),
        epilog=(
            "example:\n  tapct pacs find --patient 4711\n  tapct pacs get --patient 4711 --out scans\n"
            "  tapct pacs send export/*_seg.dcm export/*_sr.dcm"
        ),
    )
    parts = parser.add_subparsers(dest="pacs_command", metavar="find|get|send", required=True)
    find = parts.add_parser("find", help="CT series of a patient, with those of prior studies")
    _add_search(find)
    find.add_argument("--thumbnails", type=Path, metavar="DIR", help="write a picture of each series there")
    find.set_defaults(run=run_find)
    get = parts.add_parser(
        "get",
        help="series into a folder",
        description="Without --series, those that `find` marks: the latest and the like of it in each prior study.",
    )
    _add_search(get)
    get.add_argument("--series", action="append", default=[], metavar="UID", help="this one; give it once for each")
    get.add_argument("--out", type=Path, required=True, metavar="DIR", help="each series becomes a folder in it")
    get.set_defaults(run=run_get)
    send = parts.add_parser("send", help="SEG and SR to the study they belong to")
    _add_server(send)
    send.add_argument("files", nargs="+", type=Path, metavar="FILE", help="DICOM SEG or SR")
    send.set_defaults(run=run_send)


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--server", default="", metavar="URL", help="https://pacs.example.org/dicom-web")
    parser.add_argument("--json", action="store_true", help="machine-readable, to stdout")


def _add_search(parser: argparse.ArgumentParser) -> None:
    _add_server(parser)
    parser.add_argument("--patient", default="", metavar="ID", help="the patient's ID")
    parser.add_argument("--name", default="", metavar="NAME", help="the patient's name, such as 'DOE^J*'")
    parser.add_argument("--accession", default="", metavar="NUMBER", help="the accession number of a study")
    parser.add_argument("--study", default="", metavar="UID", help="the StudyInstanceUID of a study")


def _searched(args: argparse.Namespace):
    """(connection, series of the patients asked for, those proposed for a follow-up)."""
    from ..pacs import connect, find_series, proposed, with_priors

    server = connect(args.server)
    found = find_series(
        server, patient=args.patient, name=args.name, accession=args.accession, study=args.study
    )
    if not found:
        raise UserError(f"{server.host} has no CT for that; check what you asked for")
    everything = with_priors(server, found)
    picked = []
    for patient in dict.fromkeys(one.patient_id for one in found):
        own = [one for one in everything if one.patient_id == patient]
        asked = proposed([one for one in found if one.patient_id == patient])
        picked += proposed(own, asked[-1]) if asked else []
    return server, everything, picked


def run_find(args: argparse.Namespace) -> int:
    """Prints the series; * marks those that are proposed."""
    server, series, picked = _searched(args)
    pictures = _pictures(server, series, args.thumbnails) if args.thumbnails else {}
    rows = [
        asdict(one) | {"proposed": one in picked, "thumbnail": str(pictures.get(one.series_uid, ""))} for one in series
    ]
    if args.json:
        print(json.dumps({"series": rows}))
        return 0
    for row in rows:
        mark = "*" if row["proposed"] else " "
        what = " / ".join(word for word in (row["study_description"], row["description"]) if word) or "no description"
        day = row["date"] or "no date "
        print(f"{mark} {row['patient_id'] or '-'}  {row['patient_name'] or '-'}  {day}  {row['images'] or '?':>5}  "
              f"{what}  {row['series_uid']}")  # fmt: skip
    print("* proposed for a follow-up: the latest, and the like of it in each prior study")
    return 0


def _pictures(server, series: list, folder: Path) -> dict[str, Path]:
    from ..atomic import atomic_path
    from ..pacs import picture_of
    from ..thumbnails import png

    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    with progress_bar("looking", "series") as progress:
        for number, one in enumerate(series):
            progress(number, len(series))
            picture = picture_of(server, one)
            if picture is not None:
                path = folder / f"{one.series_uid}.png"
                with atomic_path(path, private=True) as part:
                    part.write_bytes(png(picture))
                written[one.series_uid] = path
    return written


def run_get(args: argparse.Namespace) -> int:
    """Fetches, and prints the folders."""
    from ..pacs import get_series

    server, series, picked = _searched(args)
    if args.series:
        unknown = sorted(set(args.series) - {one.series_uid for one in series})
        if unknown:
            raise UserError(f"{server.host} has no CT series {unknown[0]} there; `tapct pacs find` lists them")
        picked = [one for one in series if one.series_uid in args.series]
    elif len({one.patient_id for one in picked}) > 1:
        raise UserError("that is more than one patient; give --patient ID, or --series UID")
    if not picked:
        raise UserError(f"{server.host} has no CT series with several images for that; choose one with --series UID")
    folders = []
    for number, one in enumerate(picked, start=1):
        with progress_bar(f"series {number} of {len(picked)}", "image") as progress:
            folders.append(str(get_series(server, one, args.out, progress)))
    print(json.dumps({"folders": folders}) if args.json else "\n".join(folders))
    return 0


def run_send(args: argparse.Namespace) -> int:
    """Sends, and says what was there already."""
    from ..pacs import connect, send_files

    with progress_bar("sending", "file") as progress:
        sent = send_files(connect(args.server), args.files, progress)
    if args.json:
        print(json.dumps({"files": [{"path": str(one.path), "kind": one.kind, "stored": one.stored} for one in sent]}))
        return 0
    for one in sent:
        print(f"{one.path}: {one.kind} {'sent' if one.stored else 'was there already'}")
    return 0
