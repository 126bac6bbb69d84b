"""A patient's CTs out of a real Orthanc, SEG and SR back into it; breaks, passwords, and what is refused."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import stat
import threading
from dataclasses import replace

import numpy as np
import pydicom
import pytest

from tapct_core.cli import main
from tapct_core.errors import UserError
from tapct_core.export import write_seg, write_sr
from tapct_core.imports import import_findings
from tapct_core.io import load_ct
from tapct_core.lesions import Mask, Study, Timepoint
from tapct_core.pacs import (
    NotAllowed,
    RemoteSeries,
    connect,
    find_series,
    get_series,
    picture_of,
    proposed,
    send_files,
    with_priors,
)
from tapct_core.pacs import getting as getting_module
from tapct_core.pacs.credentials import Credentials
from tests.tapct_core.io.writing import ct_slice

STUDIES = (  # UID, date, (series, description, slices) ...
    ("1.2.3.1", "20240105", (("1.2.3.1.1", "Thorax 1.0 soft", 9), ("1.2.3.1.2", "Thorax 5.0 lung", 4))),
    ("1.2.3.2", "20240406", (("1.2.3.2.1", "Thorax 1.0 soft", 8), ("1.2.3.2.2", "Scout", 1))),
    ("1.2.3.3", "20240707", (("1.2.3.3.1", "Thorax 5.0 lung", 4), ("1.2.3.3.2", "Thorax 1.0 soft", 7))),
)


def hu_of(count, seed=0):
    """A body of soft tissue with a ball in it, in air: int16 (slice, row, column)."""
    z, y, x = np.ogrid[:count, :40, :48]
    body = ((y - 20) / 16) ** 2 + ((x - 24) / 20) ** 2 < 1
    hu = np.where(body, 40 + seed, -1000) + 0 * z
    hu[(z - count // 2) ** 2 * 2 + (y - 20) ** 2 + (x - 18) ** 2 < 16] = 160
    return (hu + np.random.default_rng(seed).integers(-9, 9, hu.shape)).astype(np.int16)


def files_of(study, date, series, description, count, patient="P-1", folder=None, name="Invented^Ida"):
    """Files of one series as bytes; written into ``folder`` where one is given."""
    hu = hu_of(count, int(series[-1]))
    made = [
        ct_slice(hu[k], k, StudyInstanceUID=study, SeriesInstanceUID=series, SOPInstanceUID=f"{series}.{k + 1}",
                 FrameOfReferenceUID=f"{study}.9", StudyDate=date, SeriesDate=date, SeriesDescription=description,
                 PatientID=patient, PatientName=name, StudyDescription="Staging", AccessionNumber=f"A{study[-1]}",
                 PatientBirthDate="", PatientSex="O", StudyTime="", StudyID="", ReferringPhysicianName="")
        for k in range(count)
    ]  # fmt: skip
    if folder is not None:
        folder.mkdir(parents=True)
        for k, data in enumerate(made):
            (folder / f"{k}.dcm").write_bytes(data)
    return made


@pytest.fixture
def filled(orthanc):
    """Three studies of patient P-1, one of P-12, and one without a patient ID; stored over DICOMweb."""
    from io import BytesIO

    everything = [data for uid, date, series in STUDIES for one in series for data in files_of(uid, date, *one)]
    everything += files_of("1.2.4.1", "20240203", "1.2.4.1.1", "Thorax 1.0 soft", 3, patient="P-12", name="Other^Otto")
    with connect().asked() as client:
        client.store_instances([pydicom.dcmread(BytesIO(data)) for data in everything])
    return orthanc


def series_of(server, uid):
    return next(one for one in find_series(server, patient="P-1") if one.series_uid == uid)


def test_all_ct_series_of_a_patient_with_dates(filled):
    found = find_series(connect(), patient="P-1")
    wanted = [(uid, date, *one) for uid, date, series in STUDIES for one in series]
    assert sorted((o.study_uid, o.date, o.series_uid, o.description, o.images) for o in found) == sorted(wanted)
    assert {o.patient_id for o in found} == {"P-1"} and {o.patient_name for o in found} == {"Invented^Ida"}
    assert [o.date for o in found] == sorted(o.date for o in found)
    for name in ("Invented^Ida", "Invented*", "Inv*^?da"):
        assert {o.series_uid for o in find_series(connect(), name=name)} == {o.series_uid for o in found}
    assert find_series(connect(), name="Invented Ida") == [] and find_series(connect(), patient="P 1") == []
    with pytest.raises(UserError, match="whose scans"):
        find_series(connect(), patient="*")


def test_prior_studies_are_proposed_by_what_is_alike(filled):
    server = connect()
    latest = find_series(server, accession="A3")
    assert {o.study_uid for o in latest} == {"1.2.3.3"}
    everything = with_priors(server, latest)
    assert {o.study_uid for o in everything} == {uid for uid, _, _ in STUDIES}  # and nothing of P-12
    picked = proposed(everything, proposed(latest)[0])
    assert [o.series_uid for o in picked] == ["1.2.3.1.1", "1.2.3.2.1", "1.2.3.3.2"]
    lung = next(o for o in everything if o.series_uid == "1.2.3.3.1")
    assert "1.2.3.1.2" in [o.series_uid for o in proposed(everything, lung)]


def test_a_series_comes_whole_and_as_it_was(filled, tmp_path):
    server = connect()
    one = series_of(server, "1.2.3.1.1")
    steps = []
    folder = get_series(server, one, tmp_path / "out", progress=lambda done, total: steps.append((done, total)))
    assert folder == tmp_path / "out" / "1.2.3.1.1" and steps[-1] == (9, 9) and steps[0] == (0, 9)
    files_of("1.2.3.1", "20240105", *STUDIES[0][2][0], folder=tmp_path / "own")
    own, theirs = load_ct(tmp_path / "own"), load_ct(folder)
    assert np.array_equal(own.hu, theirs.hu) and own.geometry.matches(theirs.geometry, 1e-6)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())
    assert not list((tmp_path / "out").glob(".part*"))


def counted(monkeypatch):
    """UIDs of the instances that are asked for from here on."""
    asked, own = [], getting_module._retrieved
    monkeypatch.setattr(getting_module, "_retrieved", lambda s, one, uid: asked.append(uid) or own(s, one, uid))
    return asked


def test_nothing_is_fetched_twice(filled, tmp_path, monkeypatch):
    server = connect()
    one = series_of(server, "1.2.3.1.1")
    asked = counted(monkeypatch)
    assert get_series(server, one, tmp_path, cancel=lambda: len(asked) == 4) is None
    assert len(asked) == 4 and not (tmp_path / "1.2.3.1.1").exists()
    folder = get_series(server, one, tmp_path)
    assert sorted(asked) == sorted(f"1.2.3.1.1.{k}" for k in range(1, 10))
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert get_series(server, one, tmp_path) == folder and len(asked) == 9
    assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    (folder / "1.2.3.1.1.5.dcm").unlink()
    assert len(list(get_series(server, one, tmp_path).iterdir())) == 9 and asked[9:] == ["1.2.3.1.1.5"]


def test_it_goes_on_after_the_server_broke_off(filled, tmp_path, monkeypatch):
    monkeypatch.setattr(getting_module, "PAUSE_S", 0.0)
    server = connect()
    one = series_of(server, "1.2.3.1.1")
    asked = counted(monkeypatch)

    def stop_in_the_middle(done, total):
        if done == 5:
            filled.stop()

    with pytest.raises(UserError, match="5 of 9 images are here and will not be fetched again"):
        get_series(server, one, tmp_path, progress=stop_in_the_middle)
    filled.start()
    asked.clear()
    assert len(list(get_series(connect(), one, tmp_path).iterdir())) == 9
    assert sorted(asked) == [f"1.2.3.1.1.{k}" for k in range(6, 10)]


def test_another_program_is_not_disturbed(filled, tmp_path):
    server = connect()
    one = series_of(server, "1.2.3.2.1")
    said = []

    def second(done, total):
        if done == 2 and not said:
            with pytest.raises(UserError, match="another program is fetching this series") as caught:
                get_series(server, one, tmp_path)
            said.append(caught)

    assert get_series(server, one, tmp_path, progress=second) and said


def test_a_thumbnail_is_the_slice_half_way_along(filled):
    server = connect()
    picture = picture_of(server, series_of(server, "1.2.3.1.1"))
    own = np.clip((hu_of(9, 1)[4].astype(float) + 160) / 400 * 255, 0, 255).astype(np.uint8)
    assert picture.dtype == np.uint8 and np.array_equal(picture, own)


def study_of(volume, folder):
    study = Study("p", [Timepoint("now", str(folder), series_uid=volume.source.dicom.series_instance_uid)])
    mask = np.zeros(volume.geometry.shape, bool)
    mask[2:6, 17:23, 15:21] = True
    place = tuple(volume.geometry.to_world([4, 20, 18]))
    lesion = study.add_lesion("Λέμφος 1", "now", place, "AB")
    study.set_mask(lesion.uid, "now", Mask.from_array(mask), volume, by="AB")
    return study, lesion.uid


def test_seg_and_sr_go_back_to_their_study_once_and_come_out_equal(filled, tmp_path):
    server = connect()
    folder = get_series(server, series_of(server, "1.2.3.1.1"), tmp_path)
    volume = load_ct(folder)
    study, uid = study_of(volume, folder)
    files = [write_seg(study, "now", volume, tmp_path / "seg.dcm"), write_sr(study, "now", volume, tmp_path / "sr.dcm")]
    sent = send_files(server, files)
    assert [(one.kind, one.stored) for one in sent] == [("SEG", True), ("SR", True)]
    assert [one.stored for one in send_files(server, files)] == [False, False]
    back = []
    for file in files:
        own = pydicom.dcmread(file)
        with server.asked() as client:
            theirs = client.retrieve_instance("1.2.3.1", own.SeriesInstanceUID, own.SOPInstanceUID)
        assert theirs == own
        theirs.save_as(tmp_path / f"back_{file.name}")
        back.append(tmp_path / f"back_{file.name}")
    again = Study("p", [Timepoint("now", str(folder))])
    assert not any(one.failed for one in import_findings(again, back, lambda name: volume))
    ours, theirs = study.lesion(uid).findings["now"], again.lesion(uid).findings["now"]
    assert np.array_equal(theirs.mask.to_array(), ours.mask.to_array())
    assert theirs.measurement == ours.measurement and again.lesion(uid).name == "Λέμφος 1"


def test_what_does_not_belong_is_not_sent(filled, tmp_path):
    server = connect()
    folder = get_series(server, series_of(server, "1.2.3.1.1"), tmp_path / "got")
    volume = load_ct(folder)
    study, _ = study_of(volume, folder)
    seg = write_seg(study, "now", volume, tmp_path / "seg.dcm")
    plain = write_seg(study, "now", volume, tmp_path / "plain.dcm", deidentified=True)
    other = pydicom.dcmread(seg)
    other.PatientID = "P-12"
    other.save_as(tmp_path / "other.dcm")
    for file, words in (
        (plain, "has no study that plain.dcm belongs to"),
        (tmp_path / "other.dcm", "another patient ID"),
        (next(folder.iterdir()), "no DICOM SEG or SR"),
        (tmp_path / "missing.dcm", "does not exist"),
    ):
        with pytest.raises(UserError, match=words):
            send_files(server, [seg, file])
    with server.asked() as client:  # the good one did not go alone
        assert not client.search_for_series("1.2.3.1", search_filters={"Modality": "SEG"})


def test_passwords_are_asked_for_and_never_said(filled, tmp_path, monkeypatch, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("TAPCT_PACS_PASSWORD", "wrong-word")
    with pytest.raises(NotAllowed, match="TAPCT_PACS_USER and TAPCT_PACS_PASSWORD"):
        find_series(connect(), patient="P-1")
    assert find_series(connect(credentials=Credentials("reader", "s3cret-word")), patient="P-1")
    monkeypatch.delenv("TAPCT_PACS_USER")
    import keyring

    kept = {}
    monkeypatch.setattr(keyring, "get_credential", lambda address, _: kept.get(address))
    with pytest.raises(NotAllowed):
        find_series(connect(), patient="P-1")
    kept[filled.address] = Credentials("reader", "s3cret-word")
    kept[filled.address].__dict__["username"] = "reader"
    assert main(["pacs", "get", "--patient", "P-1", "--series", "1.2.3.1.2", "--out", str(tmp_path / "out")]) == 0
    said = caplog.text + "".join(capsys.readouterr())
    written = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and "orthanc" not in str(p))
    for secret in ("s3cret-word", "wrong-word"):
        assert secret not in said and secret.encode() not in written and secret not in repr(kept)
    assert "P-1" not in caplog.text and "Invented" not in caplog.text


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("", "which PACS"),
        ("pacs.example.org", "no address"),
        ("ftp://pacs.example.org/x", "no address"),
        ("https://[::1/x", "no address"),
        ("https://reader:word@pacs.example.org/dicom-web", "leave user and password out"),
        ("http://pacs.example.org/dicom-web", "without encryption"),
    ],
)
def test_addresses_that_are_refused_before_anything_is_sent(address, words, monkeypatch):
    monkeypatch.delenv("TAPCT_PACS", raising=False)
    with pytest.raises(UserError, match=words) as caught:
        connect(address)
    assert "word@" not in str(caught.value)


@contextlib.contextmanager
def answering(answer, wrap=lambda one: one):
    """A server on the loopback that gives the same bytes to everybody; its port, and what it was asked."""
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        over = threading.Event()

        def serve():
            while not over.is_set():
                try:
                    line = server.accept()[0]
                except TimeoutError:
                    continue
                with contextlib.suppress(OSError), wrap(line) as one:
                    one.settimeout(5)
                    asked.append(one.recv(65536))
                    one.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1], asked
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\n<html>hello</html>", "not as a DICOMweb server"),
        (b"HTTP/1.0 200 OK\r\nContent-Type: application/dicom+json\r\n\r\n[1, 2]", "cannot be read"),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", "does not have this"),
        (b"HTTP/1.0 503 Busy\r\n\r\n", "too busy"),
        (b"HTTP/1.0 500 Bad\r\n\r\n", "status 500"),
        (b"HTTP/1.0 302 Found\r\nLocation: https://evil.example.org/\r\n\r\n", "another address"),
        (b"", "cannot be reached"),
    ],
)
def test_servers_that_are_none_end_in_one_line(answer, words):
    with answering(answer) as (port, asked):
        server = connect(f"http://localhost:{port}/dicom-web", Credentials("a", "b"))
        with pytest.raises(UserError, match=words) as caught:
            find_series(server, patient="SECRET-ID")
        assert "\n" not in str(caught.value) and "SECRET-ID" not in str(caught.value) and len(asked) == 1


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path):
    import ssl
    import subprocess

    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"]  # fmt: skip
    subprocess.run(made, cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    answer = b"HTTP/1.0 200 OK\r\nContent-Type: application/dicom+json\r\n\r\n[]"
    with answering(answer, lambda one: context.wrap_socket(one, server_side=True)) as (port, asked):
        address = f"https://localhost:{port}/dicom-web"
        with pytest.raises(UserError, match="certificate of localhost cannot be verified"):
            find_series(connect(address), patient="P-1")
        assert not asked
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "cert.pem"))
            assert find_series(connect(address), patient="P-1") == [] and len(asked) == 1


def test_a_netrc_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine localhost login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("TAPCT_PACS_USER", "TAPCT_PACS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    answer = b"HTTP/1.0 200 OK\r\nContent-Type: application/dicom+json\r\n\r\n[]"
    with answering(answer) as (port, asked):
        find_series(connect(f"http://localhost:{port}"), patient="P-1")
        monkeypatch.setenv("TAPCT_PACS_TOKEN", "bearer-word")
        find_series(connect(f"http://localhost:{port}"), patient="P-1")
    assert b"authorization" not in asked[0].lower() and b"Authorization: Bearer bearer-word" in asked[1]


def test_a_server_that_sends_another_image_or_a_path_is_refused(filled, tmp_path, monkeypatch):
    server = connect()
    one = series_of(server, "1.2.3.1.1")
    wrong = replace(one, series_uid="1.2.3.1.2")
    with pytest.raises(UserError, match="another image than was asked for"):
        with server.asked() as client:
            own = client.retrieve_instance
        monkeypatch.setattr(server.client, "retrieve_instance", lambda s, _, uid: own(s, "1.2.3.1.1", "1.2.3.1.1.1"))
        get_series(server, wrong, tmp_path)
    for uid in ("../../evil", "..", ".", "1..2", "1.2/3", "1." + "2" * 63):
        evil = [{"00080018": {"vr": "UI", "Value": [uid]}}]
        monkeypatch.setattr(server.client, "search_for_instances", lambda *_, offset, e=evil, **__: [] if offset else e)
        with pytest.raises(UserError, match="no valid UIDs"):
            get_series(server, one, tmp_path)
        with pytest.raises(UserError, match="no valid UIDs"):
            get_series(server, replace(one, series_uid=uid), tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name != "orthanc"] in ([], [".part-1.2.3.1.2"])


def test_proposed_of_nothing_and_of_nobody():
    single = RemoteSeries("", "", "1.2", "1.2.1", "20240101", "", "Scout", 1)
    assert proposed([]) == [] and proposed([single]) == []
    nobody = [replace(single, images=9), replace(single, study_uid="1.3", series_uid="1.3.1", images=9)]
    assert len(proposed(nobody)) == 1  # without an ID nobody knows whether it is one patient


def test_the_commands(filled, tmp_path, capsys):
    assert main(["pacs", "find", "--accession", "A3", "--json", "--thumbnails", str(tmp_path / "png")]) == 0
    rows = json.loads(capsys.readouterr().out)["series"]
    assert len(rows) == 6 and sum(row["proposed"] for row in rows) == 3
    assert all((tmp_path / "png" / f"{row['series_uid']}.png").read_bytes()[:4] == b"\x89PNG" for row in rows)
    assert main(["pacs", "find", "--patient", "P-1"]) == 0
    assert sum(line.startswith("* P-1 ") for line in capsys.readouterr().out.splitlines()) == 3
    assert main(["pacs", "get", "--patient", "P-1", "--out", str(tmp_path / "scans"), "--json"]) == 0
    folders = json.loads(capsys.readouterr().out)["folders"]
    assert [load_ct(folder).hu.shape[0] for folder in folders] == [9, 8, 7]
    assert main(["pacs", "get", "--name", "*t*", "--out", str(tmp_path / "x")]) == 2
    assert "more than one patient" in capsys.readouterr().err and not (tmp_path / "x").exists()
    assert main(["pacs", "get", "--patient", "P-1", "--series", "1.9", "--out", str(tmp_path / "x")]) == 2
    assert main(["pacs", "find", "--patient", "nobody"]) == 2
    assert "has no CT for that" in capsys.readouterr().err
    assert main(["pacs", "send", str(next((tmp_path / "scans" / "1.2.3.1.1").iterdir()))]) == 2
