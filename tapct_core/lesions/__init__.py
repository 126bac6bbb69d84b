"""A patient's lesions through time: the study, what is found and decided at each scan, and what that says.

What a study is made of are the package's own names; everything else is imported from where it lives.
"""

from .finding import Candidate, Finding, Mask, Plausibility
from .states import ABSENT, STATES, State
from .study import ROLES, Judgement, Lesion, Study, Timepoint, new_uid

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
