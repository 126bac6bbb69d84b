"""A checkpoint is whole or not there, holds a copy of the moment, and a damaged one is never used unasked."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from training.run.checkpoint import (
    Checkpointer,
    CheckpointError,
    check_files,
    checkpoint_path,
    list_checkpoints,
    load_tensors,
    optimiser_state,
    parameter_names,
)


class Small:
    """A net, its optimiser, and what pretrain hands over of them."""

    def __init__(self, seed: int = 0, steps: int = 0) -> None:
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
        self.optimiser = torch.optim.AdamW(self.net[0].parameters(), lr=0.1)  # the second layer is never stepped
        for _ in range(steps):
            self.net(torch.ones(1, 4)).sum().backward()
            self.optimiser.step()

    def state(self) -> dict:
        return {"student": self.net.state_dict(), "losses": {"centre": torch.zeros(3)}}

    def save(self, keeper: Checkpointer, step: int, **more) -> None:
        moments = optimiser_state(self.optimiser, parameter_names(self.net))
        keeper.save(step, {**self.state(), "optimiser": moments}, {"global_batch": 2}, **more)

    def load(self, keeper: Checkpointer, **more) -> dict | None:
        return keeper.load_latest(self.state(), (self.net,), self.optimiser, **more)


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_what_was_saved_comes_back(tmp_path):
    old, new = Small(steps=3), Small(seed=1)
    keeper = Checkpointer(tmp_path)
    assert new.load(keeper) is None
    old.save(keeper, 7, wait=True)
    torch.manual_seed(5)
    facts = new.load(keeper)
    assert (facts["step"], facts["ranks"], facts["global_batch"]) == (7, 1, 2)
    assert equal(old.net, new.net)
    a, b = (optimiser_state(x.optimiser, parameter_names(x.net)) for x in (old, new))
    assert a.keys() == b.keys() == {"0.0.weight", "0.0.bias"}
    assert all(torch.equal(a[n][k], b[n][k]) for n in a for k in a[n])
    # both go on alike, moments included
    for x in (old, new):
        x.net.zero_grad()
        x.net(torch.ones(1, 4)).sum().backward()
        x.optimiser.step()
    assert equal(old.net, new.net)


def test_random_numbers_go_on_where_they_were(tmp_path):
    small, keeper = Small(), Checkpointer(tmp_path)
    torch.manual_seed(11)
    small.save(keeper, 1, wait=True)
    expected = torch.rand(5)
    torch.manual_seed(12)
    small.load(keeper)
    assert torch.equal(torch.rand(5), expected)


def test_a_save_in_the_background_holds_the_moment_it_was_asked_for(tmp_path):
    small, keeper = Small(steps=1), Checkpointer(tmp_path)
    before = {name: value.clone() for name, value in small.net.state_dict().items()}
    small.save(keeper, 1)
    with torch.no_grad():
        for p in small.net.parameters():
            p.add_(1)
    keeper.wait()
    saved = load_tensors(checkpoint_path(tmp_path, 1), "student")
    assert saved.keys() == before.keys() and all(torch.equal(saved[name], before[name]) for name in before)


def test_the_last_n_are_kept(tmp_path):
    small, keeper = Small(), Checkpointer(tmp_path, keep_last=2)
    for step in (1, 2, 3, 10):
        small.save(keeper, step)
    keeper.wait()
    assert list_checkpoints(tmp_path) == [3, 10]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000003", "step_00000010"]


def test_a_save_cut_short_leaves_no_checkpoint(tmp_path):
    small, keeper = Small(), Checkpointer(tmp_path)
    small.save(keeper, 1, wait=True)
    part = tmp_path / ".part-step_00000002"
    part.mkdir()
    (part / "__0_0.distcp").write_bytes(b"half")
    assert list_checkpoints(tmp_path) == [1]
    assert small.load(Checkpointer(tmp_path))["step"] == 1
    assert not part.exists()


@pytest.mark.parametrize("damage", ["flip", "cut", "metadata", "facts"])
def test_a_damaged_one_raises_by_name_and_falls_back_only_when_told(tmp_path, damage):
    small, keeper = Small(steps=1), Checkpointer(tmp_path)
    small.save(keeper, 1, wait=True)
    Small(seed=3).save(keeper, 2, wait=True)
    path = checkpoint_path(tmp_path, 2)
    data = path / "__0_0.distcp"
    content = bytearray(data.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        data.write_bytes(content)
    elif damage == "cut":
        data.write_bytes(content[:-10])
    elif damage == "metadata":
        (path / ".metadata").unlink()
    else:
        (path / "state.json").write_text("{")
    assert check_files(path)
    new = Small(seed=9)
    with pytest.raises(CheckpointError, match=r"step_00000002 is damaged.*run.fall_back=true goes on from step 1"):
        new.load(keeper)
    with pytest.warns(UserWarning, match="passing over"):
        assert new.load(keeper, fall_back=True)["step"] == 1
    assert equal(new.net, small.net)


def test_damage_without_a_way_back_raises_even_when_told(tmp_path):
    small, keeper = Small(), Checkpointer(tmp_path)
    small.save(keeper, 1, wait=True)
    (checkpoint_path(tmp_path, 1) / "__0_0.distcp").unlink()
    with pytest.raises(CheckpointError, match="none before it"):
        small.load(keeper, fall_back=True)


def test_another_models_checkpoint_is_refused_in_words(tmp_path):
    keeper = Checkpointer(tmp_path)
    Small().save(keeper, 1, wait=True)
    other = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 5))
    with pytest.raises(CheckpointError, match="another model") as caught:
        keeper.load_latest({"student": other.state_dict()}, (other,), torch.optim.AdamW(other.parameters()))
    assert len(str(caught.value).splitlines()) == 1


def test_an_error_of_the_background_save_is_not_lost(tmp_path, monkeypatch):
    import training.run.checkpoint as module

    def full(*args):
        raise OSError("no space left on device")

    keeper = Checkpointer(tmp_path)
    monkeypatch.setattr(module, "_crc32", full)
    Small().save(keeper, 1)
    with pytest.raises(OSError, match="no space"):
        keeper.wait()
    assert list_checkpoints(tmp_path) == []


def test_facts_are_json_a_person_can_read(tmp_path):
    keeper = Checkpointer(tmp_path)
    Small().save(keeper, 4, wait=True)
    facts = json.loads((checkpoint_path(tmp_path, 4) / "state.json").read_text())
    assert facts["step"] == 4 and set(facts["files"]) == {".metadata", "__0_0.distcp"}
