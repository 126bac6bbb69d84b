"""Every number of a config has a range, and what no run can mean is refused by name in one line."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import pytest

from tapct_core.errors import UserError
from training.run.config import Config, load_config
from training.run.config_limits import LIMITS, check, check_number, numbers

CONFIGS = sorted((Path(__file__).resolve().parents[3] / "training" / "configs").glob("*.yaml"))
XS = next(path for path in CONFIGS if path.stem == "tap_ct_xs_3d")


def numeric_settings(kind: type, where: str = "") -> set[str]:
    """The names of all settings whose type is a number or a list of numbers, optional ones too."""
    found = set()
    hints = get_type_hints(kind)
    for f in fields(kind):
        hint, name = hints[f.name], f"{where}{f.name}"
        if is_dataclass(hint):
            found |= numeric_settings(hint, f"{name}.")
        elif hint in (int, float) or set(get_args(hint)) & {int, float}:
            found.add(name)
        elif get_origin(hint) is None:
            assert hint in (str, bool), name
    return found


def test_every_number_has_a_range_and_every_range_a_number():
    assert numeric_settings(Config) == set(LIMITS)
    assert {name for path in CONFIGS for name, _ in numbers(load_config(path))} <= set(LIMITS)


def word(name: str, value: float) -> str:
    """``key=value`` with as many entries as the setting has."""
    found = dict(numbers(load_config(XS))).get(name)
    return f"{name}={[value] * len(found)}" if isinstance(found, tuple) else f"{name}={value}"


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_what_lies_outside_a_range_is_refused_in_one_line(name):
    limit = LIMITS[name]
    outside = [
        math.nextafter(limit.low, -math.inf),
        math.nextafter(limit.high, math.inf),
        math.nan,
        math.inf,
        -math.inf,
    ]
    outside += [limit.low] if limit.above else []
    outside += [limit.high] if limit.below else []
    for value in outside:
        with pytest.raises(UserError, match=f"^{name} is .*must be") as refused:
            check_number(name, value)
        assert "\n" not in str(refused.value)
    inside = math.nextafter(limit.low, math.inf) if limit.above else limit.low
    check_number(name, inside)
    for value in (limit.high * 10 + 10, limit.low - 10):
        whole = int(value)  # whole, so that the type is right whatever it is
        with pytest.raises(UserError, match=name.replace(".", r"\.")):
            load_config(XS, [word(name, whole)])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["optim.lr=.nan"], "optim.lr is nan"),
        (["optim.lr=.inf"], "optim.lr is inf"),
        (["optim.lr=nan"], "optim.lr is nan"),
        (["views.n_local=-2"], "views.n_local is -2"),
        (["input.clip_hu=[800,-1000]"], "input.clip_hu is .* upwards"),
        (["input.clip_hu=[100,100]"], "input.clip_hu is .* differ"),
        (["input.mean_hu=900"], "outside input.clip_hu"),
        (["model.drop_path=1"], "model.drop_path is 1.*below 1"),
        (["model.num_heads=0"], "model.num_heads is 0"),
        (["model.patch_size=[4,0,4]"], "model.patch_size is .*4, 0, 4"),
        (["model.layer_scale_init=0"], "layer_scale_init"),
        (["optim.betas=[0.9,1.0]"], "optim.betas"),
        (["optim.min_lr=0.1"], "min_lr 0.1 is above optim.lr"),
        (["views.global_scale=[0.9,0.3]"], "views.global_scale is .* upwards"),
        (["schedule.momentum=[1.0,0.9]"], "schedule.momentum is .* upwards"),
        (["schedule.teacher_temperature=[0.01,0.07]"], "Sinkhorn"),
        (["loss.koleo=0.1", "batch.per_rank=1"], "batch.per_rank"),
        (["loss.koleo=0.1", "loss.koleo_group=3"], "koleo_group 3"),
        (["loss.ibot=1", "mask.probability=0.5", "mask.ratio=[0,0]"], "mask.ratio"),
        (["data.root=''"], "data.root is empty"),
        (["run.dir='  '"], "run.dir is empty"),
        (["seed=-1"], "seed is -1"),
        (["run.stop_after=0"], "run.stop_after is 0"),
    ],
)
def test_absurd_settings_are_refused_by_name(words, said):
    with pytest.raises(UserError, match=said) as refused:
        load_config(XS, words)
    assert "\n" not in str(refused.value)


def test_a_config_made_in_code_is_checked_too():
    config = load_config(XS)
    check(config)
    with pytest.raises(UserError, match="optim.lr is nan"):
        replace(config, optim=replace(config.optim, lr=math.nan))
