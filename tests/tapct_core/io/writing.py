"""Small files of each format as bytes, written without the readers' own code."""

from __future__ import annotations

import gzip
import io
import zlib

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

ROOT = "1.2.826.0.1.3680043.8.498."


def volume_file(name: str, values: np.ndarray) -> bytes:
    """A NRRD or MetaImage of int16 values (x, y, z): "nrrd", "nrrd gzip", "mha" or "mha deflate"."""
    sizes = " ".join(map(str, values.shape))
    data = values.astype("<i2").tobytes(order="F")
    if name.startswith("nrrd"):
        encoding = "gzip" if "gzip" in name else "raw"
        head = (
            f"NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: {sizes}\n"
            "space directions: (1.5,0,0) (0,1.5,0) (0,0,2.5)\nendian: little\n"
            f"encoding: {encoding}\nspace origin: (1,2,3)\n\n"
        )
        return head.encode() + (gzip.compress(data, mtime=0) if encoding == "gzip" else data)
    packed = "deflate" in name
    head = (
        f"ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = {packed}\nOffset = 1 2 3\n"
        f"ElementSpacing = 1.5 1.5 2.5\nDimSize = {sizes}\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    )
    return head.encode() + (zlib.compress(data) if packed else data)


def ct_slice(hu: np.ndarray, number: int, **over) -> bytes:
    """An axial CT image of int16 HU (row, column), 2.5 mm above the one before; ``over`` sets further attributes."""
    slice_ = Dataset()
    slice_.file_meta = FileMetaDataset()
    slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slice_.SOPClassUID = slice_.file_meta.MediaStorageSOPClassUID = CTImageStorage
    slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}3.{number + 1}"
    slice_.StudyInstanceUID, slice_.SeriesInstanceUID, slice_.FrameOfReferenceUID = (ROOT + n for n in "124")
    slice_.ImageType, slice_.Modality, slice_.PatientName = ["ORIGINAL", "PRIMARY", "AXIAL"], "CT", "Invented^Ida"
    slice_.PatientID, slice_.StudyDate, slice_.SeriesDate = "T1", "20240105", "20240105"
    slice_.InstanceNumber, slice_.AcquisitionNumber, slice_.SliceThickness = number + 1, 1, 2.5
    slice_.PixelSpacing, slice_.ImageOrientationPatient = [1.5, 1.5], [1, 0, 0, 0, 1, 0]
    slice_.ImagePositionPatient = [-36, -30, -100 + 2.5 * number]
    slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
    slice_.Rows, slice_.Columns = hu.shape
    slice_.BitsAllocated = slice_.BitsStored = 16
    slice_.HighBit, slice_.PixelRepresentation = 15, 1
    slice_.RescaleSlope, slice_.RescaleIntercept, slice_.RescaleType = 1, 0, "HU"
    slice_.PixelData = hu.astype("<i2").tobytes()
    for key, value in over.items():
        setattr(slice_, key, value)
    whole = io.BytesIO()
    slice_.save_as(whole, enforce_file_format=True)
    return whole.getvalue()
