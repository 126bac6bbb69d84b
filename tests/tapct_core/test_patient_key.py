"""Patients are told apart by a hash that nobody without the person's own key can reverse."""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
import sys

import pytest

from tapct_core.lesions.study_file import load_study, save_study
from tapct_core.patient_key import KEY_FILE, current_key, patient_key, secret_key


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TAPCT_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config"


def test_the_same_patient_has_the_same_key_and_others_have_others(folder):
    keys = [patient_key(str(i)) for i in range(500)]
    assert len(set(keys)) == 500 and keys == [patient_key(str(i)) for i in range(500)]
    assert all(len(key) == 12 for key in keys) and patient_key("") == ""
    assert hashlib.sha256(b"7").hexdigest()[:12] not in keys  # what enumeration finds


def test_the_secret_is_made_once_and_is_its_owners_alone(folder, monkeypatch, tmp_path):
    secret = secret_key()
    assert secret == secret_key() and len(secret) == 32
    assert stat.S_IMODE((folder / KEY_FILE).stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == [KEY_FILE]
    first = patient_key("7")
    monkeypatch.setenv("TAPCT_CONFIG", str(tmp_path / "other"))
    assert patient_key("7") != first


def test_programs_that_begin_at_once_make_one_secret(folder):
    code = "from tapct_core.patient_key import patient_key; print(patient_key('7'))"
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(6)]
    assert len({process.communicate()[0] for process in running}) == 1
    assert [path.name for path in folder.iterdir()] == [KEY_FILE]


@pytest.mark.parametrize("content", ["", "zz", "00ff", "\udcff"])
def test_a_damaged_secret_is_said_and_names_nobody(folder, content, caplog):
    folder.mkdir()
    (folder / KEY_FILE).write_bytes(content.encode("utf-8", "surrogateescape"))
    assert patient_key("7") == "" and "patients cannot be told apart" in caplog.text


def test_a_study_with_an_unkeyed_hash_is_saved_with_the_keyed_one(folder, tmp_path):
    """Once a scan of that patient was opened; the key of another patient, or one a person wrote, stays."""
    old = hashlib.sha256(b"phantom-9").hexdigest()[:12]
    path = tmp_path / "study.json"
    path.write_text(json.dumps({"patient_key": old, "timepoints": [{"path": "a.nii"}]}))
    study = load_study(path)
    save_study(study, path)
    assert load_study(path).patient_key == old
    new = patient_key("phantom-9")
    save_study(study, path)
    assert load_study(path).patient_key == new != old and current_key("p07") == "p07"


def test_a_study_is_its_owners_alone_and_stays_what_a_person_made_of_it(tmp_path):
    path, link = tmp_path / "real.json", tmp_path / "link.json"
    path.write_text(json.dumps({"timepoints": [{"path": "a.nii"}]}))
    path.chmod(0o640)
    link.symlink_to(path)
    study = load_study(link)
    study.patient_key = "p"
    save_study(study, link)
    assert link.is_symlink() and load_study(path).patient_key == "p" and stat.S_IMODE(path.stat().st_mode) == 0o640
    save_study(study, tmp_path / "new.json")
    assert stat.S_IMODE((tmp_path / "new.json").stat().st_mode) == 0o600
