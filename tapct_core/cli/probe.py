"""``tapct probe fit`` and ``tapct probe predict``: segmentation learned from a few labelled scans."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..errors import UserError
from .options import add_common_options, count, embed_from_args, progress_bar


def add_parser(commands) -> None:
    """Adds the command to ``tapct``."""
    parser = commands.add_parser(
        "probe",
        help="learn a segmentation from labelled scans, apply it to others",
        description="A linear probe on frozen features: fitted in seconds on masks or strokes, applied to any scan.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_fit(actions)
    _add_predict(actions)


def _add_fit(actions) -> None:
    parser = actions.add_parser(
        "fit",
        help="learn from labelled scans",
        description="Fits a probe on scans and label maps and writes it to PROBE, a folder or one .safetensors file.",
        epilog=(
            "example:\n  tapct probe fit scan1.nii.gz organs1.nii.gz scan2.nii.gz organs2.nii.gz --out organs.probe\n\n"
            "Labels may be full masks, where 0 is background, or strokes, where 0 means not painted.\n"
            "--zero auto takes thick labels for masks and flat ones for strokes, unless a class is named background."
        ),
    )
    parser.add_argument("pairs", nargs="+", metavar="CT LABELS", help="a CT and its label map; may be repeated")
    parser.add_argument("--out", type=Path, required=True, metavar="PROBE")
    parser.add_argument("--head", choices=("ridge", "logistic", "conv"), default="logistic", help="default: logistic")
    parser.add_argument(
        "--hu-features",
        choices=("none", "token", "voxel"),
        help="HU beside the tokens: their mean and spread a token, or these and multi-scale filters at each voxel "
        "(default: none, and voxel with --encoder none)",
    )
    parser.add_argument(
        "--zero", choices=("auto", "background", "unlabelled"), default="auto", help="what label 0 means"
    )
    parser.add_argument(
        "--phase-copies",
        type=_whole,
        default=0,
        metavar="N",
        help="learn from N more copies of each scan with the labels' HU changed, as contrast and calibration do",
    )
    parser.add_argument("--seed", type=_whole, default=0)
    add_common_options(parser)
    parser.set_defaults(run=run_fit)


def _add_predict(actions) -> None:
    parser = actions.add_parser(
        "predict",
        help="segment scans with a fitted probe",
        description="Writes one label map a scan, on the scan's own grid, with the encoder and plan of the probe.",
        epilog=(
            "example:\n  tapct probe predict scan.nii.gz --probe organs.probe --out organs.nii.gz\n"
            "  tapct probe predict a.nii.gz b.nii.gz --probe organs.probe --out segmentations\n\n"
            "With --labels the Dice of each class is reported."
        ),
    )
    parser.add_argument("ct", nargs="+", metavar="CT")
    parser.add_argument("--probe", type=Path, required=True, metavar="PROBE")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="SEG", help="a .nii.gz file, or a folder for several scans"
    )
    parser.add_argument("--guided", action="store_true", help="let edges of HU pull the borders")
    parser.add_argument(
        "--keep-largest",
        action="store_true",
        help="of each class drop the pieces under 0.3 of its largest; a second organ, as the other lung, stays",
    )
    parser.add_argument("--labels", nargs="+", metavar="LABELS", help="the truth, one a CT, for a report of Dice")
    parser.add_argument("--json", action="store_true", help="the report machine-readable, to stdout")
    add_common_options(parser)
    parser.set_defaults(run=run_predict)


def _whole(text: str) -> int:
    return 0 if text == "0" else count(text)


def run_fit(args: argparse.Namespace) -> int:
    """Fits and writes a probe. Labels are read and checked before anything is embedded."""
    from ..io import load_labels
    from ..probe import LinearProbe
    from ..probe.sampling import zero_is_background
    from ..probe.storage import check_free

    if len(args.pairs) % 2:
        raise UserError(f"{args.pairs[-1]} has no partner; give each CT its label map: CT LABELS CT LABELS ...")
    check_free(args.out)
    labels = [load_labels(path) for path in args.pairs[1::2]]
    for path, found in zip(args.pairs[1::2], labels, strict=True):
        if not found.labels.any():
            raise UserError(f"{path} holds no label above 0; give masks or strokes")
    if args.head == "conv" and not any(zero_is_background(found, args.zero) for found in labels):
        raise UserError("the conv head learns from full masks, and these are strokes; use --head logistic or ridge")
    pairs = []
    for path, found in zip(args.pairs[::2], labels, strict=True):
        pairs += _embedded(path, found, args)
    with progress_bar("fitting", "scan" if args.head != "conv" else "step") as progress:
        probe = LinearProbe.fit(
            pairs,
            head=args.head,
            hu_features=_hu_features(args),
            zero=args.zero,
            seed=args.seed,
            progress=progress,
        )
    probe.save(args.out)
    names = ", ".join(probe.names.get(value, str(value)) for value in probe.classes)
    print(f"{args.out}: {len(probe.classes)} classes ({names}), 0 is {probe.facts['zero']}", file=sys.stderr)
    return 0


def _hu_features(args: argparse.Namespace) -> str | None:
    """What was asked for; without an encoder there is nothing but HU to learn from."""
    if args.encoder == "none" and args.hu_features is None:
        return "token" if args.head == "conv" else "voxel"  # the conv head has no voxel filters
    return None if args.hu_features == "none" else args.hu_features


def _embedded(path: str, labels, args: argparse.Namespace) -> list:
    """(features, labels) of a scan and of its phase copies. The copies are not worth a place in the cache."""
    volume, features = embed_from_args(path, args)
    pairs = [(features, labels)]
    if args.phase_copies:
        from ..embedding import embed
        from ..probe.phase import phase_copies
        from .options import encoder_from_args

        for copy in phase_copies(volume, labels, args.phase_copies, args.seed):
            with progress_bar(f"embedding a copy of {Path(path).name}") as progress:
                spacing = tuple(args.spacing) if args.spacing else None
                pairs.append(
                    (embed(copy, encoder_from_args(args), args.plan, spacing, args.overlap, progress=progress), labels)
                )
    return pairs


def run_predict(args: argparse.Namespace) -> int:
    """Segments; 2 when a scan failed, after the others have been segmented."""
    from ..probe import LinearProbe

    if args.labels and len(args.labels) != len(args.ct):
        raise UserError(f"there are {len(args.ct)} CTs and {len(args.labels)} label maps; give one for each CT")
    outputs = _outputs(args.ct, args.out)
    probe = LinearProbe.load(args.probe)
    use_encoder_of(probe, args)
    reports, failed = {}, 0
    for number, (path, output) in enumerate(zip(args.ct, outputs, strict=True)):
        try:
            report = _segment(path, output, args.labels[number] if args.labels else None, probe, args)
        except UserError as error:
            if len(args.ct) == 1:
                raise
            print(f"tapct probe: {path}: {' '.join(str(error).split())}", file=sys.stderr)
            failed += 1
            continue
        if report is not None:
            reports[path] = report
    if args.json:
        print(json.dumps(reports))
    else:
        for path, report in reports.items():
            _print(path, report)
    if failed:
        print(f"tapct probe: {failed} of {len(args.ct)} scans failed, each is named above", file=sys.stderr)
    return 2 if failed else 0


def _segment(path: str, output: Path, truth: str | None, probe, args: argparse.Namespace) -> dict | None:
    from ..io import load_labels, save_labels
    from ..probe import dice_report

    expected = load_labels(truth) if truth else None
    volume, features = embed_from_args(path, args)
    warn_if_unlike(probe, features, path)
    with progress_bar(f"segmenting {Path(path).name}", "slice") as progress:
        found = probe.predict(
            features, volume, guided=args.guided, keep="largest" if args.keep_largest else None, progress=progress
        )
    save_labels(found, output)
    print(f"tapct probe: {path} -> {output}", file=sys.stderr)
    if expected is None:
        return None
    return dice_report(found, expected, tuple(value for value in probe.classes if value != probe.background))


def _outputs(scans: list[str], out: Path) -> list[Path]:
    """Where each scan's label map goes: ``out`` itself for one scan, a file in it for several."""
    from ..io.suffixes import WRITTEN, stem_of, suffix_of

    is_file = suffix_of(out) in WRITTEN
    if is_file and len(scans) == 1:
        return [out]
    if is_file or out.is_file():
        raise UserError(f"{out} is one file and there are {len(scans)} scans; give --out a folder")
    names = [stem_of(Path(scan)) for scan in scans]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"several scans are called {twice[0]}, and one would overwrite the other; segment them singly")
    return [out / f"{name}_seg.nii.gz" for name in names]


def warn_if_unlike(probe, features, path: str) -> None:
    """Says on stderr that a scan looks unlike those the probe learned from, if it does."""
    from ..probe.likeness import warning_if_unlike

    said = warning_if_unlike(probe, features)
    if said:
        print(f"tapct: warning: {path}: {said}", file=sys.stderr)


def use_encoder_of(probe, args: argparse.Namespace) -> None:
    """Fills --encoder, --plan and --spacing in from the probe where the person left them open."""
    saved = probe.provenance
    if args.encoder is None and saved.get("encoder"):
        args.encoder = saved["encoder"]
    if args.plan is None and args.spacing is None and saved.get("plan"):
        args.plan = saved["plan"]
        if args.plan == "spacing" and saved.get("spacing_mm"):
            args.spacing = [float(part) for part in saved["spacing_mm"].replace("x", " ").replace(",", " ").split()]


def _print(path: str, report: dict) -> None:
    print(f"{path}")
    for row in report["classes"].values():
        dice = "   -" if row["dice"] is None else f"{row['dice']:.3f}"
        print(f"  {row['name']:28s} Dice {dice}  voxels {row['voxels']:>9d}  truth {row['voxels_truth']:>9d}")
    mean = report["mean_dice"]
    print(f"  {'mean':28s} Dice {'   -' if mean is None else f'{mean:.3f}'}")
