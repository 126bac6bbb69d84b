"""TID 1500 reports of other programs: measurements, tracking UIDs, segments, and coordinates in image and patient."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from tapct_core.errors import UserError
from tapct_core.imports import read_findings
from tapct_core.imports.found import InSpace, OnImage
from tapct_core.imports.placing import merged

CLASS = "1.2.840.10008.5.1.4.1.1.88.33"


def code(value, meaning, scheme="DCM"):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def item(kind, name, **values):
    made = Dataset()
    made.ValueType, made.ConceptNameCodeSequence = kind, [code(*name)]
    for key, value in values.items():
        setattr(made, key, value)
    return made


def on_image(graphic, points, sop):
    selected, ref = item("IMAGE", ("121112", "Source of Measurement")), Dataset()
    ref.ReferencedSOPClassUID, ref.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", sop
    selected.ReferencedSOPSequence = [ref]
    return item("SCOORD", ("111030", "Image Region"), GraphicType=graphic,
                GraphicData=[float(c) for c in np.ravel(points)], ContentSequence=[selected])  # fmt: skip


def in_space(graphic, points, frame):
    return item("SCOORD3D", ("111030", "Image Region"), GraphicType=graphic, ReferencedFrameOfReferenceUID=frame,
                GraphicData=[float(c) for c in np.ravel(points)])  # fmt: skip


def length(name, value, *regions):
    measured = Dataset()
    measured.NumericValue, measured.MeasurementUnitsCodeSequence = str(value), [code("mm", "millimeter", "UCUM")]
    return item("NUM", name, MeasuredValueSequence=[measured], ContentSequence=list(regions))


def group(name, uid, *items):
    known = [item("TEXT", ("112039", "Tracking Identifier"), TextValue=name)] if name else []
    known += [item("UIDREF", ("112040", "Tracking Unique Identifier"), UID=uid)] if uid else []
    return item("CONTAINER", ("125007", "Measurement Group"), ContentSequence=[*known, *items])


def report(path, *groups, evidence=()):
    """``evidence``: (series UID, [SOP instance UIDs])."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = CLASS
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = "1.2.77"
    made.Modality, made.ValueType = "SR", "CONTAINER"
    made.ConceptNameCodeSequence = [code("126000", "Imaging Measurement Report")]
    made.ContentSequence = [item("CONTAINER", ("126010", "Imaging Measurements"), ContentSequence=list(groups))]
    study = Dataset()
    study.StudyInstanceUID, study.ReferencedSeriesSequence = "1.2.5", []
    for series, uids in evidence:
        one = Dataset()
        one.SeriesInstanceUID, one.ReferencedSOPSequence = series, []
        for uid in uids:
            ref = Dataset()
            ref.ReferencedSOPClassUID, ref.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", uid
            one.ReferencedSOPSequence.append(ref)
        study.ReferencedSeriesSequence.append(one)
    made.CurrentRequestedProcedureEvidenceSequence = [study]
    made.save_as(path, enforce_file_format=True)
    return path


def test_groups_regions_and_measurements_are_read(tmp_path):
    long = length(("103339001", "Long axis", "SCT"), 21.5, on_image("POLYLINE", [[1, 2], [9, 2]], "1.9.1"))
    first = group("node A", "1.2.3.1", long, length(("103340004", "Short axis", "SCT"), 12))
    second = group("", "", in_space("POINT", [[1, 2, 3]], "1.2.4"))
    one, two = read_findings(report(tmp_path / "sr.dcm", first, second, evidence=[("1.2.3", ["1.9.1", "1.9.2"])]))
    assert (one.name, one.uid) == ("node A", "1.2.3.1") and two.name == "group 2" and two.uid.startswith("2.25.")
    assert one.measurements == {"Long axis (mm)": 21.5, "Short axis (mm)": 12.0}
    (axis,) = one.what
    assert isinstance(axis, OnImage) and axis.graphic == "POLYLINE" and axis.sop_instance_uid == "1.9.1"
    assert one.series_uids == {"1.2.3"} and {"1.9.1", "1.9.2"} <= one.image_uids
    assert isinstance(two.what[0], InSpace) and two.frame_uid == "1.2.4"


def test_a_report_without_groups_is_refused(tmp_path):
    with pytest.raises(UserError, match="without measurement groups"):
        read_findings(report(tmp_path / "sr.dcm"))


def test_another_programs_report_and_its_segment_are_one_finding(data_dir):
    folder = data_dir / "dcmqi" / "sr-example"
    if not folder.is_dir():
        pytest.skip("the SR of dcmqi is not among the data")
    said, drawn = read_findings(folder / "sr.dcm"), read_findings(folder / "seg.dcm")
    assert [one.name for one in said] == ["primary tumor"]
    assert said[0].measurements["Volume (ml)"] == 33.5824
    (both,) = merged(said + drawn)
    assert both.name == "primary tumor" and both.uid == said[0].uid and both.what == drawn[0].what
    spacing = np.prod(both.what[0].geometry.spacing_mm)
    assert both.what[0].mask.sum() * spacing / 1000 == pytest.approx(33.58, abs=0.02)
