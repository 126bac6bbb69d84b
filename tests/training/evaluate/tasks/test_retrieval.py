"""Retrieval: rankings counted as by hand, chance computed exactly, and the task from files to table."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from tests.training.evaluate import labelled_data as data
from training.evaluate.__main__ import main
from training.evaluate.report.tables import read_tables
from training.evaluate.runs.run_folder import RunFolder
from training.evaluate.tasks.retrieval import AT, answer, random_average_precision, random_hit


def made(seed=0, scans=24, classes=3, gap=0.0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(scans) % classes)
    return rng.normal(size=(scans, 8)) + gap * np.eye(8)[labels], labels, np.arange(scans) // 2


def test_it_is_what_one_counts_by_hand():
    vectors, labels, patients = made(gap=1.0)
    found = answer(vectors, labels, patients)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for place, query in enumerate(found.queries):
        others = [i for i in range(24) if patients[i] != patients[query]]
        alike = labels[others] == labels[query]
        cosine = unit[others] @ unit[query]
        assert found.precision[place] == pytest.approx(average_precision_score(alike, cosine))
        ranked = alike[np.argsort(-cosine)]
        assert found.hits[place].tolist() == [float(ranked[:k].any()) for k in AT]


def test_clusters_are_found_and_noise_is_a_random_order():
    clear = answer(*made(gap=50.0))
    assert (clear.precision == 1).all() and (clear.hits == 1).all()
    noise = [answer(*made(seed)) for seed in range(40)]
    gaps = [float((one.precision - one.random_precision).mean()) for one in noise]
    assert abs(np.mean(gaps)) < 3 * np.std(gaps) / np.sqrt(40)


def test_chance_is_exact():
    """Against every order of six scans of which two are alike."""
    orders = set(itertools.permutations([1, 1, 0, 0, 0, 0]))
    precision = [average_precision_score(order, -np.arange(6)) for order in orders]
    assert random_average_precision(6, 2) == pytest.approx(np.mean(precision))
    for k in (1, 3, 5, 9):
        assert random_hit(6, 2, k) == pytest.approx(np.mean([any(order[:k]) for order in orders]))


def test_ties_go_against_the_encoder():
    labels = np.array([0, 0, 1, 1])
    found = answer(np.ones((4, 3)), labels, None)
    assert found.hits[:, 0].tolist() == [0, 0, 0, 0] and np.allclose(found.precision, 1 / 3)


def test_own_scans_do_not_answer_and_lonely_labels_do_not_ask():
    labels = np.array(["a", "a", "b", "c", "c"])
    patients = np.array(["p", "p", "q", "r", "s"])
    vectors = np.random.default_rng(0).normal(size=(5, 4))
    assert answer(vectors, labels, patients).queries.tolist() == [3, 4]
    assert answer(vectors, labels, None).queries.tolist() == [0, 1, 3, 4]


def test_length_of_an_embedding_does_not_matter():
    vectors, labels, patients = made(gap=0.5)
    longer = vectors * np.random.default_rng(1).uniform(0.1, 10, size=(24, 1))
    assert np.allclose(answer(vectors, labels, patients).precision, answer(longer, labels, patients).precision)


@pytest.fixture(scope="module")
def scans(tmp_path_factory, data_dir):
    dense = [(n // 2) % 2 == 0 for n in range(12)]
    return data.labelled_scans(
        tmp_path_factory.mktemp("scans"), data_dir, ["dense" if d else "plain" for d in dense], dense
    )


def test_the_task_from_files_to_table(scans, tmp_path, capsys):
    encoders = [data.tiny_encoder(tmp_path, name, seed) for seed, name in enumerate(("one", "other"))]
    words = ["retrieval", "--dataset", "folder", "--root", str(scans), "--device", "cpu"]
    words += ["--features", str(tmp_path / "features")]
    assert main([*words, "--out", str(tmp_path / "ab"), "--encoder", *encoders]) == 0
    assert main([*words, "--out", str(tmp_path / "ba"), "--encoder", *encoders[::-1]]) == 0
    there, back = (read_tables(RunFolder(tmp_path / name)) for name in ("ab", "ba"))
    rows = {row[0]: row[1:] for row in there.tables[0].rows}
    assert list(rows) == ["one", "other", "a random order"]
    assert rows["one"][0]["value"] > 0.8 > rows["a random order"][0]["value"]
    assert rows == {row[0]: row[1:] for row in back.tables[0].rows}
    assert any("better than a random order" in finding for finding in there.words)
    assert [row[0] for row in there.tables[1].rows] == ["dense", "plain"]
    assert "| encoder | recall@1" in capsys.readouterr().out


@pytest.mark.slow
def test_the_same_patients_other_scan_can_be_asked_for(scans, tmp_path):
    encoder = data.tiny_encoder(tmp_path, "one")
    words = ["--root", str(scans), "--label", "patient", "--device", "cpu", "--encoder", encoder]
    assert main(["retrieval", "--dataset", "folder", *words, "--out", str(tmp_path / "run")]) == 0
    assert "12 queries among 12 scans of 6 patients" in read_tables(RunFolder(tmp_path / "run")).tables[0].caption


def test_what_cannot_be_asked_is_refused(scans, tmp_path, capsys):
    words = ["--dataset", "folder", "--root", str(scans), "--device", "cpu", "--out", str(tmp_path / "run")]
    assert main(["retrieval", *words, "--encoder", "none"]) == 2
    assert "no scan embedding" in capsys.readouterr().err
