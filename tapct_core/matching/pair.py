"""A baseline and a follow-up made ready for each other, and what of them may be used."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ..errors import UserError
from .prepared import Prepared
from .prior import Prior, find_prior

EVIDENCE = ("tokens", "surroundings", "hu")
STEPS = (*EVIDENCE, "trilinear", "subtoken", "prior", "blocks", "votes", "way_back", "ncc")
"""What matching may use: evidence from tokens, from their surroundings, from the HU round the point; queries
interpolated between tokens; peaks found between tokens; the coarse motion as a gate; its refinement by block
matching on the images; votes of points round the click, weighted by their way back; the last step by correlation."""


@dataclass(frozen=True, eq=False)
class PreparedPair:
    """A baseline and a follow-up, ready for any number of clicks; ``priors`` by what made them."""

    a: Prepared
    b: Prepared
    priors: dict[tuple[tuple[str, ...], bool], Prior]

    def evidence(self, steps: Collection[str]) -> tuple[str, ...]:
        """The kinds of evidence that both scans have among ``steps``; raises UserError if there is none."""
        names = tuple(name for name in EVIDENCE if name in steps and name in self.a.keys and name in self.b.keys)
        if not names:
            raise UserError("no evidence to match on: these scans have no tokens, and HU was switched off")
        return names

    def prior(self, steps: Collection[str]) -> Prior | None:
        """The coarse motion that these steps allow, found on first use; None if they leave it out."""
        if "prior" not in steps:
            return None
        key = self.evidence(steps), "blocks" in steps
        if key not in self.priors:
            self.priors[key] = find_prior(self.a, self.b, key[0], refine=key[1])
        return self.priors[key]
