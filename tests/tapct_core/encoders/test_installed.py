"""An encoder that an installed package brings has a name like any other, in the library and on the command line."""

from __future__ import annotations

import json

import pytest

import tapct_core as tc
from tapct_core.cli import main
from tapct_core.encoders import list_encoders


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install(name=object reference, …): a package that is installed, as pip leaves it behind."""

    def put(**points: str) -> None:
        info = tmp_path / "my_lab-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-lab\nVersion: 1.0\n")
        lines = "".join(f"{name.replace('_', '-')} = {value}\n" for name, value in points.items())
        (info / "entry_points.txt").write_text(f"[tapct.encoders]\n{lines}")
        monkeypatch.syspath_prepend(str(tmp_path))

    return put


OWN = "tests.tapct_core.encoders.own_network:make"


def test_it_is_listed_without_being_imported(install, capsys):
    install(lab_net="a_module_that_is_not_there:make")
    row = next(row for row in list_encoders() if row["name"] == "lab-net")
    assert row["available"] and "my-lab" in row["where"] and json.dumps(row)
    assert main(["encoders"]) == 0
    assert "lab-net" in capsys.readouterr().out


def test_it_is_loaded_by_its_name_and_embeds(install, tmp_path, data_dir):
    install(lab_net=OWN)
    encoder = tc.load_encoder("lab-net", device="cpu")
    assert encoder.name == "lab-net" and encoder.licence == "CC0"
    scan = str(data_dir / "ct" / "cip_chest_64_ct.nii.gz")
    assert main(["embed", scan, "--out", str(tmp_path / "out"), "--encoder", "lab-net", "--device", "cpu"]) == 0
    (store,) = (tmp_path / "out").glob("*.zarr")
    from tapct_core.store import load_features

    assert load_features(store).provenance["encoder"] == "lab-net"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("a_module_that_is_not_there:make", "failed .*No module named"),
        ("json:loads", "failed"),
        ("builtins:dict", "gave a dict, not a tapct_core.Encoder"),
    ],
)
def test_what_fails_is_one_line_that_names_it(install, capsys, value, message):
    install(lab_net=value)
    with pytest.raises(tc.UserError, match=message) as caught:
        tc.load_encoder("lab-net")
    assert "lab-net" in str(caught.value) and "\n" not in str(caught.value)


def test_nobody_takes_a_name_of_ours(install):
    install(none=OWN, tap_ct_xs_3d=OWN)
    names = [row["name"] for row in list_encoders()]
    assert len(set(names)) == len(names) and "none" not in names
    assert tc.load_encoder("tap-ct-xs-3d", device="cpu").licence != "CC0"
