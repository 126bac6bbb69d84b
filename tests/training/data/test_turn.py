"""Turned crops: angles, the size that must be cut out, and what is read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from training.data.turn import draw_turns, matrices, size_to_cut, turn


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_angle_turns_about_its_axis_by_that_much(axis):
    degrees = np.zeros((1, 3))
    degrees[0, axis] = 30.0
    found = Rotation.from_matrix(matrices(degrees)[0]).as_rotvec(degrees=True)
    assert np.allclose(np.abs(found), degrees[0])


def test_three_angles_turn_about_x_first_and_z_last():
    degrees = np.array([[30.0, -12.0, 7.0], [0.0, 0.0, 0.0]])
    z, y, x = (matrices(degrees * np.eye(3)[axis])[0] for axis in range(3))
    got = matrices(degrees)
    assert np.allclose(got[0], z @ y @ x) and np.array_equal(got[1], np.eye(3))
    assert np.allclose(got @ np.swapaxes(got, 1, 2), np.eye(3)) and np.allclose(np.linalg.det(got), 1)


def test_what_is_cut_out_holds_every_turn_and_little_more():
    size = (12, 48, 48)
    assert size_to_cut(size, (0, 0, 0)) == size
    cut = size_to_cut(size, (15, 5, 5))
    assert all((c - s) % 2 == 0 and c >= s for c, s in zip(cut, size, strict=True))
    corners = np.stack(np.meshgrid(*[(-(n - 1) / 2, (n - 1) / 2) for n in size], indexing="ij"), -1).reshape(-1, 3)
    turns = draw_turns(range(500), (15, 5, 5))
    reach = np.abs(np.einsum("nij,cj->nci", turns, corners)).max(axis=(0, 1))
    assert (reach <= (np.array(cut) - 1) / 2).all() and (reach > (np.array(cut) - 1) / 2 * 0.85).all()


def test_draws_hang_on_the_seed_and_stay_within_bounds():
    assert np.array_equal(draw_turns([5, 6], (10, 3, 3))[1], draw_turns([6], (10, 3, 3))[0])
    angles = np.degrees(np.arctan2(*np.moveaxis(draw_turns(range(300), (10, 0, 0))[:, 2, 1:], 1, 0)))
    assert 9 < np.abs(angles).max() <= 10.001 and abs(angles.mean()) < 1


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_no_turn_is_the_plain_middle_and_a_quarter_turn_a_transpose(axis):
    crop = torch.rand(2, 9, 9, 9)
    assert torch.allclose(turn(crop, np.stack([np.eye(3)] * 2), (5, 7, 3)), crop[:, 2:7, 1:8, 3:6], atol=1e-5)
    degrees = np.zeros((2, 3))
    degrees[:, axis] = 90
    a, b = [i + 1 for i in range(3) if i != axis]
    got = turn(crop, matrices(degrees), (9, 9, 9))
    assert torch.allclose(got, torch.rot90(crop, -1, (a, b)), atol=1e-4)
