"""What ``tapct track`` says of lesions that have gone, split or merged: such nodules put into a real chest."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from tapct_core.cli import main
from tapct_core.lesions.study_file import load_study

MOVED = np.array([7.0, -5.0, 10.0])
"""LPS mm from the first scan to the second."""
UP = np.array([0.0, 0.0, 10.0])
BALLS = {
    "gone": ([(0 * UP, 10)], []),
    "kept": ([(0 * UP, 11)], [(0 * UP, 11)]),
    "parent": ([(0 * UP, 14)], [(UP, 7), (-UP, 7)]),
    "twins": ([(UP, 7), (-UP, 7)], [(0 * UP, 14)]),
}
"""For each place its nodules (offset LPS mm, radius mm) at the first scan and at the second."""


@pytest.fixture(scope="module")
def chest(data_dir, tmp_path_factory):
    """(folder with a.nii.gz and b.nii.gz, place of each kind in a, LPS mm)."""
    folder = tmp_path_factory.mktemp("states")
    image = nib.load(data_dir / "ct" / "cip_chest_64_ct.nii.gz")
    hu = np.asarray(image.dataobj).astype(np.int16)
    spacing = np.array(image.header.get_zooms())
    lung = np.asarray(nib.load(data_dir / "ct" / "cip_chest_64_seg.nii.gz").dataobj) > 0
    depth = ndimage.distance_transform_edt(lung, sampling=spacing)
    where = np.stack(np.meshgrid(*map(np.arange, hu.shape), indexing="ij"), axis=-1) * spacing
    voxels = {}
    for name in BALLS:
        voxels[name] = np.array(np.unravel_index(depth.argmax(), hu.shape))
        depth[np.linalg.norm(where - voxels[name] * spacing, axis=-1) < 60] = 0
    towards = np.sign(np.diag(image.affine)[:3]) * (-1, -1, 1)  # in which way each array axis runs in LPS
    for scan, when in (("a", 0), ("b", 1)):
        pixels = hu.copy()
        for name, voxel in voxels.items():
            for offset, radius in BALLS[name][when]:
                centre = voxel * spacing + offset * towards
                pixels[np.linalg.norm(where - centre, axis=-1) <= radius] = 30
        affine = image.affine.copy()
        affine[:3, 3] += MOVED * (-1, -1, 1) * when  # NIfTI is RAS
        nib.save(nib.Nifti1Image(pixels, affine), folder / f"{scan}.nii.gz")
    lps = {name: (image.affine @ [*voxel, 1])[:3] * (-1, -1, 1) for name, voxel in voxels.items()}
    return folder, lps


def tracked(chest, capsys, lesions: dict[str, np.ndarray], marks: dict[str, np.ndarray]):
    """The study's lesions by name after ``tapct track``: ``lesions`` at a, and ``marks`` at b as a detector's."""
    folder, _ = chest
    rows = [{"name": name, "findings": {"a": {"point_lps_mm": list(place)}}} for name, place in lesions.items()]
    for name, place in marks.items():
        rows.append({"name": name, "findings": {"b": {"state": "proposed", "point_lps_mm": list(place)}}})
    file = folder / "study.json"
    timepoints = [{"name": name, "path": f"{name}.nii.gz"} for name in "ab"]
    file.write_text(json.dumps({"patient_key": "p1", "timepoints": timepoints, "lesions": rows}))
    code = main(["track", str(file), "--encoder", "none"])
    assert code == 0, capsys.readouterr().err
    return {lesion.name: lesion for lesion in load_study(file).lesions}


def test_a_lesion_that_has_gone_is_proposed_as_disappeared_and_its_neighbours_stay(chest, capsys):
    _, places = chest
    found = tracked(chest, capsys, {name: places[name] for name in ("gone", "kept")}, {})
    gone, kept = (found[name].findings["b"] for name in ("gone", "kept"))
    assert (gone.state, gone.verdict, gone.point_lps_mm, gone.mask) == ("disappeared", "not found", None, None)
    assert not gone.decided and not gone.present  # a person still decides
    assert gone.presence < kept.presence
    assert gone.candidates  # where it was looked for stays on record
    assert kept.present and kept.state == "proposed"
    assert np.linalg.norm(np.array(kept.point_lps_mm) - places["kept"] - MOVED) < 3


def test_two_findings_of_one_lesion_are_its_own_and_one_split_from_it(chest, capsys):
    _, places = chest
    halves = {f"half {sign:+d}": places["parent"] + MOVED + sign * UP for sign in (1, -1)}
    found = tracked(chest, capsys, {"parent": places["parent"]}, halves)
    own = found["parent"].findings["b"]
    (other,) = [lesion for name, lesion in found.items() if name.startswith("half")]  # the other was taken over
    assert (own.state, own.verdict) == ("proposed", "marked")
    split = other.findings["b"]
    assert (split.state, split.related, split.decided) == ("split", (found["parent"].uid,), False)
    both = sorted([tuple(own.point_lps_mm), tuple(split.point_lps_mm)])
    assert np.allclose(both, sorted(tuple(place) for place in halves.values()))


def test_two_lesions_with_one_finding_left_have_merged(chest, capsys):
    _, places = chest
    twins = {f"twin {sign:+d}": places["twins"] + sign * UP for sign in (1, -1)}
    middle = places["twins"] + MOVED
    found = tracked(chest, capsys, twins, {"mark": middle})
    assert set(found) == set(twins)  # the mark was linked
    states = {name: lesion.findings["b"].state for name, lesion in found.items()}
    assert sorted(states.values()) == ["merged", "proposed"]
    (merged,) = [found[name] for name, state in states.items() if state == "merged"]
    (heir,) = [found[name] for name, state in states.items() if state == "proposed"]
    assert merged.findings["b"].related == (heir.uid,)
    for lesion in (merged, heir):
        assert np.allclose(lesion.findings["b"].point_lps_mm, middle)
        assert not lesion.findings["b"].decided
