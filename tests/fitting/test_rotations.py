"""Random turns of tri-axial sensors, and the channels that they are looked for in."""

import numpy as np
import pytest

from streamrde.fitting.rotations import find_triples, random_rotation, turned


@pytest.mark.parametrize(
    ("names", "triples"),
    [
        (("ax", "ay", "az", "wx", "wy", "wz"), ((0, 1, 2), (3, 4, 5))),
        (("Acc_Z", "Acc_X", "hr", "Acc_Y"), ((1, 3, 0),)),
        (("x", "y"), ()),
        (("x_max", "y_max", "z_max"), ((0, 1, 2),)),
        (("c0", "c1", "c2", "c3", "c4", "c5"), ((0, 1, 2), (3, 4, 5))),
        (tuple(f"c{i}" for i in range(12)), ()),
        (("c0",), ()),
    ],
)
def test_axes_of_a_sensor_are_found_by_name_or_number(names, triples):
    assert find_triples(names) == triples


def test_a_rotation_keeps_lengths_and_handedness():
    rotation = random_rotation(0.5, np.random.default_rng(1))
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    assert np.arccos((np.trace(rotation) - 1) / 2) <= 0.5


def test_all_sensors_turn_alike_and_other_channels_stay():
    x = np.random.default_rng(2).normal(size=(5, 7))
    x[:, 3:6] = 2 * x[:, :3]
    found = turned(x, ((0, 1, 2), (3, 4, 5)), 30.0, np.random.default_rng(3))
    np.testing.assert_allclose(found[:, 3:6], 2 * found[:, :3])
    np.testing.assert_allclose(np.linalg.norm(found[:, :3], axis=1), np.linalg.norm(x[:, :3], axis=1))
    assert (found[:, 6] == x[:, 6]).all()
    assert (found[:, :3] != x[:, :3]).all()
