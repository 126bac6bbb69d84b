"""DICOM: the real series, and series made from it that are shuffled, cut, tilted, mixed or compressed."""

from __future__ import annotations

import logging
import shutil

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.pixels import get_decoder
from pydicom.uid import JPEG2000Lossless, RLELossless

from tapct_core.io import list_series, load_ct, load_labels, save_labels, scan_info
from tapct_core.volume import AIR_HU

COUNT, SIZE, STEP = 6, 64, 2.0
"""Of the series that the fixtures write: slices, pixels a side, mm between slices."""


def series(uid):
    def change(dataset, number):
        dataset.SeriesInstanceUID = uid

    return change


def same_as_itk(volume, folder_or_files):
    """Every voxel has SimpleITK's value at SimpleITK's place."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(f) for f in volume.source.dicom.files])
    image = reader.Execute()
    theirs = np.clip(sitk.GetArrayFromImage(image), AIR_HU, None)
    rng = np.random.default_rng(0)
    for _ in range(200):
        index = rng.integers(0, volume.geometry.shape)
        x, y, z = image.TransformPhysicalPointToIndex(volume.geometry.to_world(index).tolist())
        assert abs(int(volume.hu[tuple(index)]) - theirs[z, y, x]) <= 0.5
        back = image.TransformIndexToPhysicalPoint((x, y, z))
        assert np.allclose(back, volume.geometry.to_world(index), atol=1e-2)


def test_the_real_series_agrees_with_itk(real_series):
    volume = load_ct(real_series)
    assert volume.geometry.shape == (20, 512, 512)
    assert np.allclose(volume.geometry.spacing_mm, (2.0, 0.9765625, 0.9765625))
    same_as_itk(volume, real_series)
    found = volume.source.dicom
    positions = [float(pydicom.dcmread(f, stop_before_pixels=True).ImagePositionPatient[2]) for f in found.files]
    assert positions == sorted(positions) and len(set(found.sop_instance_uids)) == 20
    assert found.date == "20221208" and found.description == "CT Body 3.0" and found.patient_key == ""
    assert volume.source.window == (300.0, 40.0)


def test_labels_of_the_real_series_lie_on_it_and_go_back_to_its_grid(real_series, data_dir, tmp_path):
    volume, labels = load_ct(real_series), load_labels(data_dir / "dicom" / "ts_example_series_seg.nii.gz")
    assert labels.geometry.matches(volume.geometry)
    saved = save_labels(labels, tmp_path / "seg.nii.gz", like=volume)
    again = load_labels(saved)
    assert np.array_equal(again.labels, labels.labels) and again.geometry.matches(volume.geometry)


def test_names_and_order_of_files_do_not_matter(write):
    first = load_ct(write(folder="a"))
    second = load_ct(write(folder="b", order=(0, 1, 2, 3, 4, 5), names="IM{0}"))
    assert first.content_hash == second.content_hash
    same_as_itk(first, None)


def test_one_file_stands_for_its_series(write):
    folder = write()
    write(series("1.2.3"), names="other{0}.dcm")
    volume = load_ct(folder / "slice03.dcm")
    assert volume.geometry.shape == (COUNT, SIZE, SIZE)
    assert load_ct(folder / "other3.dcm").source.dicom.series_instance_uid == "1.2.3"


def test_several_series_are_listed_and_one_is_chosen(write, refused, real_slices):
    folder = write()
    write(series("1.2.3"), names="other{0}.dcm")
    message = refused(load_ct, folder, "--series UID")
    assert "1.2.3" in message and real_slices[0].SeriesInstanceUID in message and "CT Body 3.0" in message
    assert load_ct(folder, series="1.2.3").source.dicom.series_instance_uid == "1.2.3"
    refused(lambda path: load_ct(path, series="9.9"), folder, "no CT series '9.9'")
    found = list_series(folder)
    assert {info.uid for info in found} == {"1.2.3", real_slices[0].SeriesInstanceUID}
    assert all(info.shape == (COUNT, SIZE, SIZE) and info.modality == "CT" and info.kernel == "Br38f" for info in found)
    assert all(info.middle_file.is_file() and info.date == "20221208" for info in found)


def test_localizers_other_modalities_and_reports_are_left_out(write):
    def localizer(dataset, number):
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        return number < 2

    def pet(dataset, number):
        dataset.SeriesInstanceUID, dataset.Modality = "1.2.4", "PT"

    def report(dataset, number):
        dataset.SeriesInstanceUID, dataset.Modality = "1.2.5", "SR"
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
        for key in ("PixelData", "Rows", "Columns", "ImagePositionPatient"):
            delattr(dataset, key)
        return number < 1

    folder = write()
    write(localizer, names="scout{0}")
    write(pet, names="pet{0}")
    write(report, names="report{0}")
    (folder / "notes.txt").write_text("the folder of a person")
    assert load_ct(folder).geometry.shape == (COUNT, SIZE, SIZE)


def test_only_another_modality_is_no_ct(write, refused):
    def mr(dataset, number):
        dataset.Modality = "MR"

    folder = write(mr)
    refused(load_ct, folder, "not a CT: its modality is MR")
    refused(load_ct, folder / "slice00.dcm", "not a CT: its modality is MR")


@pytest.mark.parametrize(
    "axes",
    [
        [1, 0, 0, 0, 1, 0],
        [1, 0, 0, 0, 0, -1],
        [0, 1, 0, 0, 0, -1],
        [-1, 0, 0, 0, -1, 0],
        [1, 0, 0, 0, -1, 0],
        [0.6, 0.8, 0, -0.8, 0.6, 0],
    ],
)
@pytest.mark.parametrize("direction", [1, -1])
def test_every_patient_position_agrees_with_itk(write, axes, direction):
    normal = np.cross(axes[:3], axes[3:])

    def place(dataset, number):
        dataset.ImageOrientationPatient = axes
        dataset.ImagePositionPatient = (np.array([10.0, -20.0, 30.0]) + direction * 3.0 * number * normal).tolist()
        dataset.PixelSpacing = [0.7, 0.9]

    volume = load_ct(write(place))
    same_as_itk(volume, None)
    spacing = sorted(volume.geometry.spacing_mm)
    assert np.allclose(spacing, (0.7, 0.9, 3.0))


def test_pixel_spacing_is_row_then_column(write):
    def anisotropic(dataset, number):
        dataset.PixelSpacing = [0.5, 1.5]

    assert np.allclose(load_ct(write(anisotropic)).geometry.spacing_mm, (STEP, 0.5, 1.5))


def test_rle_and_the_real_jpeg_2000_are_read(write, real_series):
    expected = load_ct(write(folder="plain"))

    def compress(dataset, number):
        dataset.compress(RLELossless, generate_instance_uid=False)

    assert load_ct(write(compress, folder="rle")).content_hash == expected.content_hash
    syntax = pydicom.dcmread(next(real_series.iterdir()), stop_before_pixels=True).file_meta.TransferSyntaxUID
    assert syntax == JPEG2000Lossless  # so the other tests of the real series cover it


def test_a_missing_decoder_is_named(real_series, refused, monkeypatch):
    monkeypatch.setattr(get_decoder(JPEG2000Lossless), "_available", {})
    refused(load_ct, real_series, r"JPEG 2000.*pip install .*pylibjpeg-openjpeg")


def test_truncated_at_ten_places(write, refused, tmp_path):
    folder = write()
    victim = folder / "slice02.dcm"
    whole = victim.read_bytes()
    for cut in [0, 50, 131, 200, 500, 1500, len(whole) // 3, len(whole) // 2, len(whole) - 500, len(whole) - 2]:
        victim.write_bytes(whole[:cut])
        refused(load_ct, folder, "slice02.dcm is|missing at")


def test_truncated_compressed_slices_are_refused(real_series, tmp_path, refused):
    for path in sorted(real_series.iterdir())[:3]:
        shutil.copy(path, tmp_path / path.name)
    victim = tmp_path / sorted(real_series.iterdir())[1].name
    whole = victim.read_bytes()
    for share in (0.2, 0.9):
        victim.write_bytes(whole[: int(len(whole) * share)])
        refused(load_ct, tmp_path, "truncated or damaged")


def test_flipped_bytes_end_in_a_volume_or_a_line(write, right_or_refused):
    folder = write(lambda d, n: n < 3)
    victim = sorted(folder.iterdir())[1]
    whole = victim.read_bytes()
    rng = np.random.default_rng(0)
    for at in rng.integers(128, len(whole) - 2 * SIZE * SIZE, 30):
        broken = bytearray(whole)
        broken[at] ^= int(rng.integers(1, 256))
        victim.write_bytes(broken)
        right_or_refused(load_ct, folder)


@pytest.mark.parametrize("size", [(65535, 65535), (64, 65), (63, 64), (0, 64)])
def test_wrong_sizes_allocate_nothing(write, refused, size):
    def wrong(dataset, number):
        dataset.Rows, dataset.Columns = size

    refused(load_ct, write(wrong), "cannot hold|truncated|damaged|no CT slices|do not fit")


def test_folders_without_slices_are_refused(tmp_path, refused, write):
    (tmp_path / "empty").mkdir()
    refused(load_ct, tmp_path / "empty", "no DICOM files")
    refused(list_series, tmp_path / "empty", "no DICOM files")
    refused(load_ct, write(lambda d, n: n == 0, folder="one"), "single slice")


def test_multiframe_is_refused_by_name(write, refused):
    def frames(dataset, number):
        dataset.NumberOfFrames = 6

    refused(load_ct, write(frames), "multi-frame")


def test_slices_in_subfolders_are_found(write, tmp_path):
    write(folder="patient")
    folder = tmp_path / "patient"
    (folder / "deep").mkdir()
    for path in list(folder.glob("*.dcm"))[:3]:
        path.rename(folder / "deep" / path.name)
    assert load_ct(folder).geometry.shape[0] == COUNT


def test_no_patient_is_named(write, refused, caplog):
    def named(dataset, number):
        dataset.PatientName, dataset.PatientID = "DOE^JANE", "ID4711"
        dataset.PatientBirthDate, dataset.OtherPatientIDs = "19500101", "ID4711"

    def bad(dataset, number):
        named(dataset, number)
        dataset.PixelData += bytes(2)  # pydicom logs this, and the invalid UID
        dataset["SeriesInstanceUID"]._value = "1.2.DOE"
        return number != 2

    with caplog.at_level(logging.DEBUG):
        volume = load_ct(write(named, folder="a"))
        words = [str(scan_info(volume.source.path)), str(list_series(volume.source.path)), repr(volume.source)]
        words.append(refused(load_ct, write(bad, folder="b"), "missing"))
    write(named, folder="c")
    words.append(refused(load_ct, write(series("1.2.3"), folder="c", names="x{0}"), "--series"))
    assert not any(secret in caplog.text + "".join(words) for secret in ("DOE", "JANE", "4711", "1950"))
    assert len(volume.source.dicom.patient_key) == 12
