"""Opens CTs and label maps: NIfTI, NRRD, MetaImage and DICOM, one file or a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from napari import current_viewer
from napari.layers import Layer
from napari.utils.notifications import show_info, show_warning

from tapct_core.errors import UserError
from tapct_core.io import list_series, load_ct, load_labels
from tapct_core.io.checks import LooksLikeLabels
from tapct_core.volume import CTVolume

from .layers import SOURCE, ct_image, labels_layer

MOST_SERIES = 8
"""CT series of one folder that are opened together; 8 of 512 x 512 x 600 voxels take 2.5 GB."""
NOTHING_TO_ADD = [(None,)]
"""napari's sign for: read well, and no layer comes of it."""


def get_reader(path: str | list[str]) -> Callable | None:
    """npe2's entry: a function that reads ``path`` into layers. Several paths at once are slices of one series."""
    return read


def read(path: str | list[str]) -> list[Layer] | list[tuple[None]]:
    """Layers of a file or DICOM folder. Raises UserError, one line that says what is wrong and what to do.

    Every CT series of a folder becomes a layer, the one with most slices shown and the others
    hidden. A slice whose series is open already adds nothing, so that slices dropped one by one
    are not read a hundred times.
    """
    first = Path(path[0] if isinstance(path, list) else path)
    if _is_open(first):
        show_info(f"{first.name} belongs to a series that is open already")
        return NOTHING_TO_ADD
    layers = list(_read_folder(first)) if first.is_dir() else [_read_file(first)]
    for layer in layers[1:]:
        layer.visible = False
    return layers


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
        return _ct(load_ct(path), stem(path))
    except LooksLikeLabels:
        return Layer.create(*labels_layer(load_labels(path), stem(path)))


def _ct(volume: CTVolume, name: str) -> Layer:
    return ct_image(volume, ct_name(volume, name))


def ct_name(volume: CTVolume, name: str) -> str:
    """What a CT's layer is called: a DICOM series by its date and description, else ``name``."""
    dicom = volume.source.dicom
    words = [word for word in (dicom.date, dicom.description) if word] if dicom else []
    return " ".join(words) or name


def _is_open(path: Path) -> bool:
    viewer = current_viewer()
    sources = [layer.metadata.get(SOURCE) for layer in viewer.layers] if viewer else []
    return any(source and source.dicom and path in source.dicom.files for source in sources)


def stem(path: Path) -> str:
    """A file's name without its suffixes, .nii.gz being two."""
    name = path.name
    for suffix in (".gz", path.with_suffix("").suffix if name.lower().endswith(".gz") else path.suffix):
        name = name[: -len(suffix)] if suffix and name.lower().endswith(suffix.lower()) else name
    return name
