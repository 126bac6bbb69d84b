"""A patient's lesions through time: the study, what is found and decided at each scan, and what that says.

The names of :mod:`.study` are the package's own; everything else is imported from where it lives.
"""

from .study import (
    ABSENT,
    ROLES,
    STATES,
    Candidate,
    Finding,
    Judgement,
    Lesion,
    Mask,
    Plausibility,
    State,
    Study,
    Timepoint,
    new_uid,
)

__all__ = [
    "ABSENT",
    "ROLES",
    "STATES",
    "Candidate",
    "Finding",
    "Judgement",
    "Lesion",
    "Mask",
    "Plausibility",
    "State",
    "Study",
    "Timepoint",
    "new_uid",
]
