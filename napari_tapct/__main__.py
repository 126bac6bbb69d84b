"""napari with everything in place: ``python -m napari_tapct [CT... | STUDY.json]``, which ``tapct gui`` runs."""

from __future__ import annotations

import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Opens the window on scans, folders of DICOM or a study, and returns when it is closed; 2 for a wrong path."""
    import napari

    from tapct_core.errors import UserError

    paths = [Path(one) for one in arguments]
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        print(f"tapct gui: {', '.join(missing)}: not found; check the path", file=sys.stderr)
        return 2
    viewer = napari.Viewer(title="TAP-CT")
    try:
        fill(viewer, paths)
    except UserError as error:
        viewer.close()
        print(f"tapct gui: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    napari.run()
    return 0


def fill(viewer: object, paths: list[Path]) -> None:
    """The widgets as tabs, *Start here* in front where nothing is opened; scans are read beside the window.

    Raises UserError for a study that cannot be read, or a study beside other paths.
    """
    from tapct_core.errors import UserError

    from .scans.opening import opener_of
    from .session import session_of
    from .start import open_widgets

    studies = [path for path in paths if path.suffix == ".json"]
    if studies and len(paths) > 1:
        raise UserError("give one study, or scans; a study opens its scans itself")
    if not paths:
        open_widgets(viewer, ("Start here",))
        return
    follow_up = open_widgets(viewer, ("Scans", "Segment", "Follow-up"))[-1]
    if studies:
        follow_up.study_bar.open_study(studies[0])
    else:
        opener_of(session_of(viewer)).open(paths)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
