"""The pixels of DICOM slices in Hounsfield units, decompressed where a decoder is installed."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import UserError
from ..volume import AIR_HU, to_int16_hu
from .checks import refuse_unless_ct
from .dicom_slices import Slice, number, text

LARGEST_RATIO = 2000
"""No real CT slice compresses more than this; a header that claims so is broken."""
PLAUSIBLE_HU = (AIR_HU, 3071)
"""What a scanner's 12 bits hold; a padding value inside it is left alone, for it may be tissue's too."""
EXTRA = "pip install 'napari-tapct[dicom]'"


def read_pixels(slices: list[Slice]) -> np.ndarray:
    """HU of all slices -> (slice, row, column) int16; padding and values under -1024 are air."""
    rows, columns = slices[0].size
    for s in slices:
        if rows * columns * number(s.header, "BitsAllocated", 16) // 8 > LARGEST_RATIO * s.path.stat().st_size:
            raise UserError(f"{s.path.name} is truncated: it cannot hold {rows} x {columns} pixels; copy it again")
    hu = None
    promised = True
    for k, s in enumerate(slices):
        plane, known = _read_plane(s)
        hu = np.empty((len(slices), rows, columns), np.int16) if hu is None else hu
        hu[k] = plane
        promised = promised and known
    if not promised:
        refuse_unless_ct(hu, False, "this DICOM series (without RescaleIntercept or modality)")
    return hu


def _read_plane(s: Slice) -> tuple[np.ndarray, bool]:
    """(HU of one slice (row, column) int16, whether its header promises HU: a CT with a rescale)."""
    import pydicom

    try:
        dataset = pydicom.dcmread(s.path, force=True)
        _need_decoder(dataset, s.path.name)
        stored = dataset.pixel_array
        slope, intercept = number(dataset, "RescaleSlope", 1.0), number(dataset, "RescaleIntercept", 0.0)
        padding = dataset.get("PixelPaddingValue")
        # pydicom drops what is too much; a whole row of it means that the header's size is wrong.
        packed = "BitsAllocated" not in dataset or dataset.file_meta.TransferSyntaxUID.is_encapsulated
        excess = (
            0 if packed else len(dataset.PixelData) - stored.nbytes * dataset.BitsAllocated // (8 * stored.itemsize)
        )
    except UserError:
        raise
    except Exception:  # decoders and a broken file can raise anything; their words help nobody
        raise UserError(f"{s.path.name} is truncated or damaged: its pixels cannot be read; copy it again") from None
    scalable = np.isfinite([slope, intercept]).all() and slope != 0
    if excess >= s.size[1] or stored.shape != s.size or stored.dtype.kind not in "iu" or not scalable:
        raise UserError(f"{s.path.name} is damaged: its pixels do not fit its header; copy it again")
    if slope == 1.0 and intercept == int(intercept):
        hu = to_int16_hu(stored.astype(np.int32) + int(intercept))
    else:
        hu = to_int16_hu(stored * slope + intercept)
    if isinstance(padding, int):
        # The tag's sign may not agree with the pixels', so compare the bits as stored.
        outside = stored == np.array(padding & 0xFFFF, np.uint16).astype(stored.dtype)
        if not PLAUSIBLE_HU[0] <= padding * slope + intercept <= PLAUSIBLE_HU[1]:
            hu[outside] = AIR_HU
    return hu, "RescaleIntercept" in dataset and text(s.header, "Modality") == "CT"


def _need_decoder(dataset: Any, name: str) -> None:
    """Raise UserError that names the extra when no installed package decodes this transfer syntax."""
    from pydicom.pixels import get_decoder

    syntax = dataset.file_meta.get("TransferSyntaxUID") if hasattr(dataset, "file_meta") else None
    if syntax is None:
        return
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        raise UserError(
            f"{name} has a transfer syntax that is not read ({syntax.name}); save it uncompressed"
        ) from None
    if not available:
        raise UserError(f"{name} is compressed ({syntax.name}) and its decoder is not installed; run {EXTRA}")
