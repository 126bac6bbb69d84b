"""Ingest takes what is a CT, says why it leaves the rest, and does nothing twice."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tapct_core.geometry import Geometry
from tapct_core.io import load_ct
from tapct_core.volume import CTVolume
from training.data.candidates import find_candidates
from training.data.crop_store import CropStore
from training.data.ingest_journal import read_outcomes
from training.data.inventory import UNSTATED, age_band, slice_band, tally
from training.ingest import Layout, body_box, ingest, lay_out, main, reason_against

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path, data_dir):
    """A person's folder: two CTs, one of them twice, labels, a broken file, a letter, a DICOM series."""
    root = tmp_path / "scans"
    (root / "deep").mkdir(parents=True)
    shutil.copy(data_dir / "ct" / "cip_chest_64_ct.nii.gz", root / "a.nii.gz")
    shutil.copy(data_dir / "ct" / "cip_chest_64_ct.nii.gz", root / "deep" / "copy of a.nii.gz")
    shutil.copy(data_dir / "ct" / "pyradiomics_lung1_ct.nii.gz", root / "deep" / "b.nii.gz")
    shutil.copy(data_dir / "ct" / "pyradiomics_lung1_seg.nii.gz", root / "labels.nii.gz")
    (root / "broken.nii.gz").write_bytes((root / "a.nii.gz").read_bytes()[:5000])
    (root / "letter.txt").write_text("no scan")
    shutil.copytree(data_dir / "dicom" / "ts_example_series", root / "series")
    return root


def statuses(rows) -> dict[str, str]:
    return {row.source.rsplit("scans/", 1)[1].split("#")[0]: row.status for row in rows}


def test_ingest_takes_leaves_out_and_reports(folder, tmp_path):
    rows = ingest(folder, tmp_path / "store", Layout())
    assert statuses(rows) == {
        "a.nii.gz": "taken",
        "deep/copy of a.nii.gz": "known",
        "deep/b.nii.gz": "taken",
        "labels.nii.gz": "left out",
        "broken.nii.gz": "left out",
        "series": "taken",
    }
    assert all(row.reason for row in rows if row.status != "taken")
    with open(tmp_path / "store" / "report.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    store = CropStore(tmp_path / "store")
    assert len(store) == 3
    original = load_ct(folder / "deep" / "b.nii.gz")
    mine = store.read_scan(original.content_hash[:20])
    assert np.array_equal(mine, original.hu)
    assert store.geometry(original.content_hash[:20]).matches(original.geometry)
    with open(tmp_path / "store" / "inventory.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert {row["kind"] for row in table} == {"nifti", "dicom"} and (
        tmp_path / "store" / "inventory.png"
    ).stat().st_size > 5000
    dicom = next(row for row in table if row["kind"] == "dicom")
    assert dicom["slice_mm"] == "2.00" and set(dicom) == {
        "scan",
        "kind",
        "manufacturer",
        "sex",
        "age",
        "slice_mm",
        "kernel",
        "region",
        "contrast",
    }

    # again: nothing is read, nothing is written, a new scan is taken, a moved one is known by its content
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store" / "scans").rglob("*")}
    (folder / "a.nii.gz").rename(folder / "renamed.nii.gz")
    again = statuses(ingest(folder, tmp_path / "store", Layout()))
    assert again["renamed.nii.gz"] == "known" and "taken" not in again.values()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store" / "scans").rglob("*")} == before


def test_an_ingest_cut_short_goes_on(folder, tmp_path):
    def stop_after_two(done, total, outcome):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(folder, tmp_path / "store", Layout(), progress=stop_after_two)
    some = len(CropStore(tmp_path / "store"))
    rows = ingest(folder, tmp_path / "store", Layout())
    assert 0 < some < 3 and len(CropStore(tmp_path / "store")) == 3
    assert "known" in statuses(rows).values()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_read_again_after_a_kill(tmp_path, data_dir, ending, workers):
    """Killed after some scans: these are in the store and in the journal, and their files are not opened again."""
    listing, store = tmp_path / "list.txt", tmp_path / "store"
    names = ["cip_chest_64", "crlm_ct_1004", "crlm_ct_1006", "pyradiomics_lung1", "pyradiomics_lung2", "lidc_0314"]
    listing.write_text("".join(f"{data_dir / 'ct' / name}_ct.nii.gz\n" for name in names))
    words = [str(listing), "--out", str(store), "--workers", str(workers)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = subprocess.Popen([sys.executable, "-m", "training.ingest", *words], cwd=ROOT, env=environment)
    while len(read_outcomes(store)) < 2:
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(ending)
    assert running.wait(60) == (130 if ending == signal.SIGTERM else -signal.SIGKILL)
    before = read_outcomes(store)
    assert 2 <= len(before) < len(names)
    assert {row.scan_id for row in before.values()} <= {scan.scan_id for scan in CropStore(store).scans}
    seen = []
    rows = ingest(listing, store, Layout(), progress=lambda done, total, outcome: seen.append(outcome.source))
    assert len(rows) == len(names) == len(CropStore(store)) and not set(seen) & set(before)


def test_parts_make_one_store(folder, tmp_path):
    alone = ingest(folder, tmp_path / "alone", Layout())
    parts = [ingest(folder, tmp_path / "store", Layout(), part=(number, 3)) for number in range(3)]
    assert sorted(row.source for part in parts for row in part) == sorted(row.source for row in alone)
    assert CropStore(tmp_path / "store").scans == CropStore(tmp_path / "alone").scans
    with open(tmp_path / "store" / "report.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(alone)


def test_numbers_that_are_no_hu_are_left_out(tmp_path, data_dir):
    import nibabel as nib

    image = nib.load(data_dir / "ct" / "cip_chest_64_ct.nii.gz")
    hu = image.get_fdata()
    infinite = hu.copy()
    infinite[10, 10, 10] = np.inf
    for name, values in (("tripled", 3 * hu), ("infinite", infinite)):
        nib.save(nib.Nifti1Image(values.astype(np.float32), image.affine), tmp_path / f"{name}.nii.gz")
    (tmp_path / "list.txt").write_text(f"{tmp_path / 'tripled.nii.gz'}\n{tmp_path / 'infinite.nii.gz'}\n")
    rows = {row.source.rsplit("/", 1)[1]: row for row in ingest(tmp_path / "list.txt", tmp_path / "store", Layout())}
    assert {row.status for row in rows.values()} == {"left out"}
    assert "HU" in rows["tripled.nii.gz"].reason and "infinite" in rows["infinite.nii.gz"].reason


@pytest.mark.slow
def test_workers_give_the_same_store(folder, tmp_path):
    ingest(folder, tmp_path / "one", Layout(spacing_mm=(4, 4, 4)), workers=1)
    ingest(folder, tmp_path / "two", Layout(spacing_mm=(4, 4, 4)), workers=2)
    one, two = CropStore(tmp_path / "one"), CropStore(tmp_path / "two")
    assert one.scans == two.scans
    assert all(np.array_equal(one.read_scan(s.scan_id), two.read_scan(s.scan_id)) for s in one.scans)


def test_layout_crops_and_resamples_in_place(data_dir):
    volume = load_ct(data_dir / "ct" / "lidc_0314_ct.nii.gz")
    hu, geometry = lay_out(volume, Layout(spacing_mm=(4.0, 3.0, 3.0), crop_body=True))
    assert hu.shape == geometry.shape and geometry.spacing_mm == pytest.approx((4.0, 3.0, 3.0))
    # the same place of the patient holds about the same tissue: smooth means agree
    centre = geometry.to_world((np.array(hu.shape) - 1) / 2)
    z, y, x = np.rint(volume.geometry.to_index(centre)).astype(int)
    assert abs(volume.hu[z - 4 : z + 5, y - 6 : y + 7, x - 6 : x + 7].mean()
               - hu[tuple(slice(n // 2 - 2, n // 2 + 3) for n in hu.shape)].mean()) < 60  # fmt: skip


def test_body_box_cuts_air_and_a_table_apart():
    hu = np.full((20, 200, 200), -1000, dtype=np.int16)
    hu[:, 60:120, 50:140] = 40
    hu[:, 170:176, 10:190] = 200  # a table, two cells of air below the body
    (z, y, x), (depth, height, width) = body_box(hu)
    assert (z, depth) == (0, 20) and y <= 60 and y + height >= 120 and x <= 50 and x + width >= 140
    assert y + height <= 165 and height < 120


@pytest.mark.parametrize(
    ("hu", "spacing", "said"),
    [
        (np.zeros((2, 64, 64)) - 1000, (5, 1, 1), "too small"),
        (np.zeros((20, 64, 64)), (1, 1, 1), "label map"),
        (np.linspace(0, 900, 20 * 64 * 64).reshape(20, 64, 64), (1, 1, 1), "no air"),
        (np.linspace(-1000, 900, 20 * 64 * 64).reshape(20, 64, 64), (30, 1, 1), "spacing"),
        (np.linspace(-1024, -600, 20 * 64 * 64).reshape(20, 64, 64), (1, 1, 1), "nothing but air"),
    ],
)
def test_what_is_no_ct_is_named(hu, spacing, said):
    hu = hu.astype(np.int16)
    assert said in reason_against(CTVolume(hu, Geometry.from_spacing(hu.shape, spacing)))


def test_all_real_scans_pass(data_dir):
    for name in ("crlm_ct_1004", "ts_aorta_cta"):
        assert reason_against(load_ct(data_dir / "ct" / f"{name}_ct.nii.gz")) == ""


def test_a_list_of_paths_is_a_source(tmp_path, data_dir):
    listing = tmp_path / "list.txt"
    listing.write_text(f"{data_dir / 'ct' / 'cip_chest_64_ct.nii.gz'}\n\n{data_dir / 'dicom'}\n")
    found = list(find_candidates(listing))
    assert [candidate.path.name for candidate in found][0] == "cip_chest_64_ct.nii.gz"
    assert any(candidate.path.name == "ts_example_series" and len(candidate.files) == 20 for candidate in found)


def test_series_of_one_folder_are_told_apart(tmp_path, data_dir):
    import pydicom

    files = sorted((data_dir / "dicom" / "ts_example_series").iterdir())
    for number, file in enumerate(files[:6]):
        dataset = pydicom.dcmread(file, stop_before_pixels=True)
        dataset.SeriesInstanceUID = f"1.2.3.{number % 2}"
        dataset.Modality = "CT" if number < 5 else "MR"
        dataset.save_as(tmp_path / f"slice{number}", enforce_file_format=True)
    found = list(find_candidates(tmp_path))
    assert [(candidate.series, len(candidate.files)) for candidate in found] == [("1.2.3.0", 3), ("1.2.3.1", 2)]


def test_wrong_words_end_in_one_line(tmp_path, capsys, folder):
    for words in (
        [str(tmp_path / "nowhere"), "--out", str(tmp_path / "s")],
        [str(folder), "--out", str(folder)],
        [str(folder), "--out", str(tmp_path / "s"), "--spacing", "0", "1", "1"],
    ):
        assert main(words) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_bands_and_tallies():
    assert [age_band(age) for age in ("064Y", "018M", "003D", "old", UNSTATED)] == [
        "60-69",
        "0-9",
        "0-9",
        UNSTATED,
        UNSTATED,
    ]
    assert [slice_band(mm) for mm in ("0.70", "1.00", "2.50", "5.00", "7.5")] == [
        "up to 1 mm",
        "up to 1 mm",
        "2-3 mm",
        "3-5 mm",
        "over 5 mm",
    ]
    rows = [{"age": age, "kernel": f"k{i}"} for i, age in enumerate(["070Y", "005Y", "071Y", UNSTATED] * 4)]
    assert tally(rows, "age") == [("0-9", 4), ("70-79", 8), (UNSTATED, 4)]
    assert tally(rows, "kernel", most=3)[-1] == ("others", 13)
