"""SEG and SR from sources whose headers are broken in the ways of anonymisers and old archives."""

from __future__ import annotations

import shutil
from copy import deepcopy

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from tapct_core.errors import UserError
from tapct_core.export import write_seg, write_sr
from tapct_core.io import load_ct
from tapct_core.lesions import Mask, Study, Timepoint

SIDE, COUNT = 64, 6
NAMES = ("Λέμφος 1", "肝臓 2", "x" * 90, "back\\slash\nand break")


@pytest.fixture(scope="module")
def sources(dicom_pair):
    """Six slices of the real series, 64 x 64."""
    found = []
    for path in sorted(dicom_pair.folders[0].iterdir())[:COUNT]:
        slice_ = pydicom.dcmread(path)
        slice_.PixelData = np.ascontiguousarray(slice_.pixel_array[60 : 60 + SIDE, 60 : 60 + SIDE]).tobytes()
        slice_.Rows = slice_.Columns = SIDE
        found.append(slice_)
    return found


@pytest.fixture
def export(sources, tmp_path):
    """Write the slices with ``change(dataset, number)`` applied, then SEG and SR -> (seg, sr) data sets."""

    def exported(change):
        shutil.rmtree(tmp_path / "ct", ignore_errors=True)
        (tmp_path / "ct").mkdir()
        with pydicom.config.disable_value_validation():
            for number, dataset in enumerate(deepcopy(sources)):
                change(dataset, number)
                dataset.save_as(tmp_path / "ct" / f"{number}.dcm")
        volume = load_ct(tmp_path / "ct")
        study = Study("p", [Timepoint("now", "ct")])
        for k, name in enumerate(NAMES):
            mask = np.zeros(volume.geometry.shape, bool)
            mask[1 + k % 2 : 4, 10 + 8 * k : 16 + 8 * k, 20:29] = True
            place = tuple(volume.geometry.to_world([2, 12 + 8 * k, 24]))
            lesion = study.add_lesion(name, "now", place, "AB")
            study.set_mask(lesion.uid, "now", Mask.from_array(mask), volume, by="AB")
        writers = ((write_seg, "seg.dcm"), (write_sr, "sr.dcm"))
        paths = [write(study, "now", volume, tmp_path / name) for write, name in writers]
        return [pydicom.dcmread(path) for path in paths]

    return exported


def without(*keys):
    return lambda dataset, number: [dataset.pop(key, None) for key in keys]


def having(**values):
    def change(dataset, number):
        for key, value in values.items():
            setattr(dataset, key, value)

    return change


TYPE_2 = ("StudyID", "AccessionNumber", "PatientBirthDate", "PatientSex", "StudyTime", "StudyDate", "PatientName",
          "ReferringPhysicianName", "PositionReferenceIndicator", "Manufacturer", "PatientID",
          "SliceThickness")  # fmt: skip
BROKEN = {
    "type 2 missing": without(*TYPE_2),
    "type 2 empty": having(**dict.fromkeys(TYPE_2)),
    "dates no calendar has": having(StudyDate="00000000", PatientBirthDate="99999999", SeriesDate="20240230"),
    "times no clock shows": having(StudyTime="996099", SeriesTime="abc"),
    "a sex of its own": having(PatientSex="male"),
    "latin-1": having(SpecificCharacterSet="ISO_IR 100", PatientName="Müßig^Zoë", ReferringPhysicianName="Gómez^José"),
    "an unknown character set": having(SpecificCharacterSet="ISO_IR 999", PatientName="Musig^Zoe"),
    "no thickness": without("SliceThickness", "SpacingBetweenSlices"),
    "a thickness that is none": having(SliceThickness="0"),
    "another thickness": having(SliceThickness="7.5"),
    "old dates": having(StudyDate="2024.01.05", StudyTime="10:15:00"),
    "long words": having(StudyDescription="d" * 90, PatientName="N" * 60, SeriesDescription="s" * 90),
    "an empty series": without("SeriesDate", "SeriesTime", "SeriesNumber", "InstanceNumber", "AcquisitionNumber"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_seg_and_sr_are_whole_and_valid(export, kind, caplog):
    seg, sr = export(BROKEN[kind])
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SliceThickness) == float(measures.SpacingBetweenSlices) == 2.0
    assert seg.SpecificCharacterSet == sr.SpecificCharacterSet == "ISO_IR 192"
    if kind == "latin-1":
        assert str(seg.PatientName) == str(sr.PatientName) == "Müßig^Zoë"
        assert str(sr.ReferringPhysicianName) == "Gómez^José"
    if kind == "old dates":
        assert seg.StudyDate == "20240105" and seg.StudyTime == "101500"
    labels = [segment.SegmentLabel for segment in seg.SegmentSequence]
    assert labels == ["Λέμφος 1", "肝臓 2", "x" * 64, "back slash and break"]
    said = [element.value for element in sr.iterall() if element.keyword == "TextValue"]
    assert {"Λέμφος 1", "肝臓 2", "x" * 90, "back slash and break"} <= set(said)
    assert "Müßig" not in caplog.text


@pytest.mark.parametrize("kind", BROKEN)
def test_an_independent_checker_accepts_them(checker_errors, export, tmp_path, kind):
    export(BROKEN[kind])
    assert checker_errors(tmp_path / "seg.dcm") == [] and checker_errors(tmp_path / "sr.dcm") == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (having(SOPInstanceUID="1.2.3.4"), "several slices of the DICOM series have one SOPInstanceUID"),
        (having(StudyInstanceUID=""), "no valid StudyInstanceUID"),
        (having(StudyInstanceUID="1.02.3"), "no valid StudyInstanceUID"),
        (having(SeriesInstanceUID="a3f5e2"), "no valid SeriesInstanceUID"),
        (having(FrameOfReferenceUID="1." + "2" * 70), "no valid FrameOfReferenceUID"),
    ],
)
def test_what_nothing_can_refer_to_is_refused_in_one_line(export, tmp_path, change, words):
    with pytest.raises(UserError, match=words) as caught:
        export(change)
    assert "\n" not in str(caught.value) and not list(tmp_path.glob("*.dcm"))


def test_uids_lost_in_the_data_set_are_in_the_meta_header(export, sources):
    seg, _ = export(without("SOPInstanceUID", "SOPClassUID"))
    assert seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID in {
        source.file_meta.MediaStorageSOPInstanceUID for source in sources
    }


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
@pytest.mark.parametrize("how", ["missing", "empty"])
def test_any_one_attribute_may_be_missing_or_empty(export, sources, how, part):
    """Each ends in whole files, or in one line; never in another exception."""
    keys = [element.keyword for element in sources[0] if element.keyword and element.keyword != "PixelData"]
    assert len(keys) > 40
    whole, keys = 0, keys[part::8]
    for key in keys:
        try:
            export(without(key) if how == "missing" else having(**{key: None}))
            whole += 1
        except UserError as error:
            assert "\n" not in str(error), key
    assert whole > len(keys) / 2


def test_what_a_library_refuses_is_one_line(export, monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise AttributeError("first line\nsecond line")

    monkeypatch.setattr("highdicom.seg.Segmentation", refuse)
    with pytest.raises(UserError, match="a DICOM SEG cannot be made.*first line second line") as caught:
        export(having(PatientComments=generate_uid()))
    assert "\n" not in str(caught.value) and not (tmp_path / "seg.dcm").exists()
