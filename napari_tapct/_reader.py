"""Opens CTs and label maps: NIfTI, NRRD, MetaImage and DICOM, one file or a folder.

A script that calls ``viewer.open`` gets its layers back, so that reading is done when it returns. A person who drops a
file or takes it from the File menu waits for nothing: there the reader hands over to the :class:`Opener`, which reads
beside the interface thread, asks which of several series to open, and can be cancelled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from napari import Viewer, current_viewer
from napari.layers import Layer
from napari.utils.notifications import show_info, show_warning

from tapct_core.errors import UserError
from tapct_core.io import list_series, load_ct, load_labels
from tapct_core.io.checks import LooksLikeLabels
from tapct_core.io.suffixes import stem_of
from tapct_core.volume import CTVolume

from .layers import SOURCE, ct_image, ct_name, labels_layer

MOST_SERIES = 8
"""CT series of one folder that are opened together; 8 of 512 x 512 x 600 voxels take 2.5 GB."""
NOTHING_TO_ADD = [(None,)]
"""napari's sign for: read well, and no layer comes of it."""
BY_HAND = "napari._qt.qt_viewer"
"""napari's module through which drops and menus open files, and scripts do not. Should it be called otherwise one day,
they are read on the interface thread again."""


def get_reader(path: str | list[str]) -> Callable | None:
    """npe2's entry: a function that reads ``path`` into layers. Several DICOM files at once are slices of series."""
    return read


def read(path: str | list[str]) -> list[Layer] | list[tuple[None]]:
    """Layers of a file or DICOM folder. Raises UserError, one line that says what is wrong and what to do.

    Every CT series of a folder becomes a layer, the one with most slices shown and the others hidden. A slice whose
    series is open already adds nothing, so that slices opened one by one are not read a hundred times. No layers
    where a person asked for them by hand: they follow.
    """
    paths = [Path(one) for one in (path if isinstance(path, list) else [path])]
    viewer = _asking()
    if viewer is not None:
        from .scans.opening import opener_of
        from .session import session_of

        opener_of(session_of(viewer)).open(paths)
        return NOTHING_TO_ADD
    layers: list[Layer] = []
    for one in paths:
        if _is_open(one, layers):
            show_info(f"{one.name} belongs to a series that is open already")
            continue
        layers += list(_read_folder(one)) if one.is_dir() else [_read_file(one)]
    for layer in layers[1:]:
        layer.visible = False
    return layers or NOTHING_TO_ADD


def _read_folder(folder: Path) -> Iterator[Layer]:
    series = sorted((one for one in list_series(folder) if one.modality == "CT"), key=lambda one: -one.slices)
    if not series:  # let it say why
        yield _ct(load_ct(folder), folder.name)
        return
    if len(series) > MOST_SERIES:
        listed = "; ".join(f"{one.description or one.uid} ({one.slices} slices)" for one in series)
        raise UserError(
            f"{folder.name} holds {len(series)} CT series, too many at once; open a folder or a file of one: {listed}"
        )
    refused = []
    for one in series:
        try:
            volume = load_ct(folder, series=one.uid)
        except UserError as error:
            refused.append(error)
            show_warning(str(error))
        else:
            yield _ct(volume, folder.name)
    if len(refused) == len(series):
        raise refused[0]


def _read_file(path: Path) -> Layer:
    try:
        return _ct(load_ct(path), stem_of(path))
    except LooksLikeLabels:
        return Layer.create(*labels_layer(load_labels(path), stem_of(path)))


def _ct(volume: CTVolume, name: str) -> Layer:
    return ct_image(volume, ct_name(volume, name))


def _asking() -> Viewer | None:
    """The viewer on which a person dropped what is read, or from whose menu they took it; None for a script."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == BY_HAND:
            viewer = getattr(frame.f_locals.get("self"), "viewer", None)
            return viewer if isinstance(viewer, Viewer) else None
        frame = frame.f_back
    return None


def _is_open(path: Path, read_now: list[Layer]) -> bool:
    viewer = current_viewer()
    sources = [layer.metadata.get(SOURCE) for layer in [*(viewer.layers if viewer else []), *read_now]]
    return any(source and source.dicom and path in source.dicom.files for source in sources)
