"""``tapct gui``: napari with the plugin's widgets and the given scans or study in place."""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib.util import find_spec

from ..errors import UserError


def add_parser(commands) -> None:
    """Adds the command to ``tapct``."""
    parser = commands.add_parser(
        "gui",
        help="napari with everything in place",
        description="Opens napari with the plugin's widgets, on CTs, DICOM folders or one study; without any, on the "
        "page that shows where to start.",
        epilog="example:\n  tapct gui baseline.nii.gz followup.nii.gz",
    )
    parser.add_argument("paths", nargs="*", metavar="CT|STUDY.json", help="scans, folders of DICOM, or one study")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the window in a process of its own, since this library imports no face; returns its exit code.

    Raises UserError where napari or the plugin is not installed.
    """
    if find_spec("napari") is None or find_spec("napari_tapct") is None:
        raise UserError("napari is not installed here; install this package with its [gui] extra, as README says")
    return subprocess.run([sys.executable, "-W", "ignore", "-m", "napari_tapct", *args.paths]).returncode
