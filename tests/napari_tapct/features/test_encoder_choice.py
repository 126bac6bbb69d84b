"""What can be chosen: the packaged encoder first, and what other installed packages bring."""

from __future__ import annotations

from napari_tapct.features.encoder_choice import choices
from tapct_core.encoders import PACKAGED


def test_an_encoder_of_another_package_can_be_chosen_and_asks_for_no_download(tmp_path, monkeypatch):
    info = tmp_path / "my_lab-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-lab\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tapct.encoders]\nlab-net = nobody_imports_this:make\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = choices()
    own = next(choice for choice in found if choice.name == "lab-net")
    assert found[0].name == PACKAGED and own.title == "lab-net (installed)"
    assert "my-lab" in own.words and own.download_mb == 0
