"""A folder as a table: patients apart but unnamed, series, spacing, kernels, what is wrong; the pixels stay unread."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from tapct_core.errors import UserError
from tapct_core.io import inventory
from tests.tapct_core.io import writing

HU = np.full((8, 10), 40, np.int16)


@pytest.fixture
def folder(tmp_path):
    """Two patients; a baseline and a follow-up, a gap, phases, an MR, a damaged slice, NIfTI files and a text."""

    def series(name, patient, study, date, z=range(6), **over):
        (tmp_path / name).mkdir(parents=True)
        for k in z:
            facts = {"SeriesInstanceUID": f"1.2.{name}", "StudyInstanceUID": study, "PatientID": patient,
                     "SeriesDate": date, "SOPInstanceUID": f"1.3.{sum(map(ord, name))}.{k}",
                     "SeriesDescription": name, "ConvolutionKernel": "B30f"}  # fmt: skip
            (tmp_path / name / f"{k}.dcm").write_bytes(writing.ct_slice(HU, k, **facts | over))

    series("later", "Anna", "1.9.2", "20240601")
    series("early", "Anna", "1.9.1", "20240105")
    series("gap", "Bert", "1.9.3", "20240105", (0, 1, 2, 4, 5))
    series("mr", "Bert", "1.9.3", "20240105", Modality="MR")
    series("phases", "Bert", "1.9.3", "20240105")
    for k in range(6):
        (tmp_path / "phases" / f"again{k}.dcm").write_bytes(
            writing.ct_slice(HU + 1, k, SeriesInstanceUID="1.2.phases", StudyInstanceUID="1.9.3", PatientID="Bert",
                             SeriesDate="20240105", SOPInstanceUID=f"1.4.{k}", SeriesDescription="phases"))  # fmt: skip
    (tmp_path / "early" / "copy.dcm").write_bytes((tmp_path / "early" / "0.dcm").read_bytes())
    whole = (tmp_path / "early" / "1.dcm").read_bytes()
    (tmp_path / "broken.dcm").write_bytes(whole[:400])
    (tmp_path / "notes.txt").write_text("nothing")
    nib.Nifti1Image(np.zeros((5, 6, 7), np.int16), np.diag([-0.5, -0.75, 2, 1])).to_filename(tmp_path / "a.nii.gz")
    (tmp_path / "b.nrrd").write_bytes(b"NRRD0004\n")
    return tmp_path


def test_each_series_is_a_row_with_what_is_wrong(folder, monkeypatch):
    def never(*_, **__):
        raise AssertionError("pixels were read")

    monkeypatch.setattr("tapct_core.io.dicom_pixels._read_plane", never)
    rows = {row.description or row.path: row for row in inventory(folder)}
    assert set(rows) == {"later", "early", "gap", "mr", "phases", "broken.dcm", "a.nii.gz", "b.nrrd"}
    early, later, gap = rows["early"], rows["later"], rows["gap"]
    assert (early.slices, early.spacing_mm, early.kernel, early.problem) == (6, (2.5, 1.5, 1.5), "B30f", "")
    assert early.patient == later.patient != gap.patient and (early.study, later.study) == ("1", "2")
    assert "missing at" in gap.problem and "positions repeat" in rows["phases"].problem
    assert rows["mr"].problem == "not a CT (MR)" and "truncated or damaged" in rows["broken.dcm"].problem
    assert (rows["a.nii.gz"].slices, rows["a.nii.gz"].spacing_mm) == (7, (2.0, 0.75, 0.5))
    assert rows["b.nrrd"].problem
    assert not any("Anna" in str(row) or "Bert" in str(row) for row in rows.values())


def test_an_empty_folder_is_a_line(tmp_path):
    with pytest.raises(UserError, match="holds no scan"):
        inventory(tmp_path)
