"""Enhanced multi-frame CT, made from the same slices as single images: the same volume."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from tapct_core.io import list_series, load_ct

COMMON = (
    "StudyInstanceUID", "SeriesInstanceUID", "Modality", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation",
)  # fmt: skip
ENHANCED = "1.2.840.10008.5.1.4.1.1.2.1"


@pytest.fixture
def enhanced(tmp_path, real_slices):
    """Write one multi-frame file from the six slices; ``change(dataset)`` before -> its path. Frames in no order."""

    def made(change=None, order=(3, 0, 5, 1, 4, 2), phases=1, compress=False):
        first = real_slices[0]
        file = Dataset()
        file.file_meta = FileMetaDataset()
        file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = ENHANCED
        file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = "1.2.9.1"
        for key in COMMON:
            file[key] = first[key]
        file.FrameOfReferenceUID, file.ImageType = "1.2.9.2", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
        shared, orientation, measures, values = Dataset(), Dataset(), Dataset(), Dataset()
        orientation.ImageOrientationPatient, measures.PixelSpacing = first.ImageOrientationPatient, first.PixelSpacing
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 1, -1024, "HU"
        shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
        shared.PixelValueTransformationSequence = [values]
        file.SharedFunctionalGroupsSequence, file.PerFrameFunctionalGroupsSequence = [shared], []
        pixels = []
        for phase in range(phases):
            for number in order:
                group, position, content = Dataset(), Dataset(), Dataset()
                position.ImagePositionPatient = real_slices[number].ImagePositionPatient
                content.TemporalPositionIndex = phase + 1
                group.PlanePositionSequence, group.FrameContentSequence = [position], [content]
                file.PerFrameFunctionalGroupsSequence.append(group)
                pixels.append(real_slices[number].pixel_array + 5 * phase)
        file.NumberOfFrames = len(pixels)
        file.PixelData = np.stack(pixels).astype(np.uint16).tobytes()
        if change is not None:
            change(file)
        if compress:
            file.compress(RLELossless, generate_instance_uid=False)
        (tmp_path / "enhanced").mkdir(exist_ok=True)
        file.save_as(tmp_path / "enhanced" / "all.dcm", enforce_file_format=True)
        return tmp_path / "enhanced" / "all.dcm"

    return made


@pytest.mark.parametrize("compress", [False, True])
def test_it_is_the_volume_of_its_single_images(write, enhanced, compress):
    single, path = load_ct(write(folder="single")), enhanced(compress=compress)
    for place in (path, path.parent):
        volume = load_ct(place)
        assert np.array_equal(volume.hu, single.hu) and volume.geometry.matches(single.geometry, 1e-6)
        assert volume.source.dicom.frame_of_reference_uid == "1.2.9.2"
    (info,) = list_series(path.parent)
    assert info.slices == 6 and info.shape == (6, 64, 64) and info.modality == "CT"


def test_rescale_frame_by_frame(write, enhanced):
    def own(file):
        shared = file.SharedFunctionalGroupsSequence[0]
        (values,) = shared.PixelValueTransformationSequence
        del shared.PixelValueTransformationSequence
        pixels = np.frombuffer(file.PixelData, np.uint16).reshape(6, 64, 64).copy()
        for k, group in enumerate(file.PerFrameFunctionalGroupsSequence):
            item = Dataset()
            item.RescaleSlope, item.RescaleIntercept, item.RescaleType = 1, -1024 - 10 * k, "HU"
            group.PixelValueTransformationSequence = [item]
            pixels[k] += 10 * k
        file.PixelData = pixels.tobytes()

    assert np.array_equal(load_ct(enhanced(own)).hu, load_ct(write(folder="single")).hu)


def test_its_phases_are_listed_and_chosen(enhanced, refused):
    path = enhanced(phases=3)
    refused(load_ct, path.parent, "3 phases at the same positions; choose one with --phase N")
    first, third = load_ct(path, phase=1), load_ct(path, phase=3)
    assert np.array_equal(first.hu + 10, third.hu)


@pytest.mark.parametrize("gone", ["PlanePositionSequence", "PerFrame", "a frame"])
def test_frames_without_a_place_are_refused(enhanced, refused, gone):
    def lose(file):
        if gone == "PerFrame":
            del file.PerFrameFunctionalGroupsSequence
        elif gone == "a frame":
            file.PerFrameFunctionalGroupsSequence.pop()
        else:
            del file.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence

    refused(load_ct, enhanced(lose), "do not all say where they lie")


def test_a_missing_frame_is_a_missing_slice(enhanced, refused):
    refused(load_ct, enhanced(order=(0, 1, 2, 4, 5)), "a slice is missing")
