"""Whether numbers can be Hounsfield units: fat lies at -100 and muscle and water between 0 and 100, in everybody.

Reading makes everything under -1024 air and infinity the highest int16, so a wrong scale shows in the tissue alone:
three times too large, fat lies at -300, where a CT has little but the rims of air. Of 22 scans of train and dev
patients none is refused, and times three all of them are. Of 3,200 blocks of them, 24 to 48 mm by 60 to 240 mm, a heart
full of contrast agent among them, none is refused, and times three a third: enough to name the scan soon.
"""

from __future__ import annotations

import numpy as np

SATURATED = 32767
"""What infinity, and anything beyond int16, becomes on reading; no scanner's scale gets there."""
PATIENT_HU = (-500, 1500)
SOFT_HU = (-150, 150)
RIM_HU = (-450, -150)
LEAST_SOFT, MOST_RIM, MOST_RIM_OF_BLOCK = 0.6, 0.15, 0.35
"""Shares of what lies within PATIENT_HU; what has less and more is in other units. A block can be a lung's rim."""
LEAST_PATIENT = 0.2
"""With a smaller share of patient, nothing is said."""
LOOKED_AT = 500_000


def not_hu(hu: np.ndarray, block: bool = False) -> str:
    """Why int16 values (z, y, x) of a scan, or of a ``block`` of one, are no HU, in words; "" where nothing says so."""
    saturated = int(np.count_nonzero(hu == SATURATED))
    if saturated:
        return f"{saturated} voxels are infinite or above {SATURATED}"
    values = hu.reshape(-1)[:: max(1, hu.size // LOOKED_AT)]
    patient = values[(values > PATIENT_HU[0]) & (values < PATIENT_HU[1])]
    if patient.size < max(1000, LEAST_PATIENT * values.size):
        return ""
    soft, rim = (float(((patient > low) & (patient < high)).mean()) for low, high in (SOFT_HU, RIM_HU))
    if soft < LEAST_SOFT and rim > (MOST_RIM_OF_BLOCK if block else MOST_RIM):
        return f"its values are scaled: {soft:.0%} of the patient within 150 HU of water, {rim:.0%} under fat"
    return ""
