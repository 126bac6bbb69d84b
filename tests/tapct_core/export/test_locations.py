"""Body sites and comments in an SR, there and back."""

from __future__ import annotations

import highdicom as hd
import pytest

from tapct_core.export import write_sr
from tapct_core.imports import read_findings
from tapct_core.imports.placing import place
from tapct_core.lesions import Study, Timepoint


@pytest.mark.parametrize("organ", ["liver", "liver, segment 7", "behind the stove", "Liver", ""])
def test_where_it_lies_and_what_was_said_come_back(dicom_pair, tmp_path, organ):
    volume = dicom_pair.volumes[0]
    point = tuple(volume.geometry.to_world((9, 70, 60)).tolist())
    study = Study("p", [Timepoint("baseline", str(dicom_pair.folders[0]))])
    lesion = study.add_lesion("L1", "baseline", point, "AB", organ=organ)
    gone = study.add_lesion("L2", "baseline", point, "AB")
    study.set_comment(lesion.uid, "baseline", "beside the fissure, größer? " * 6)
    study.not_present(gone.uid, "baseline", "AB")
    path = write_sr(study, "baseline", volume, tmp_path / "sr.dcm")
    (group,) = hd.sr.srread(path).content.get_planar_roi_measurement_groups()
    coded = [site.value.value for site in group.finding_sites]
    assert coded == (["10200004"] if organ.lower().startswith("liver") else [])
    again = Study("p", [Timepoint("baseline", str(dicom_pair.folders[0]))])
    for found in read_findings(path):
        assert not place(again, "baseline", volume, found).failed
    came = {one.name: one for one in again.lesions}
    assert came["L1"].organ == organ and came["L2"].organ == ""
    assert came["L1"].findings["baseline"].comment == study.finding(lesion.uid, "baseline").comment
    assert came["L2"].findings["baseline"].comment == ""
