def balls_at(volume, point, reach_mm):
    return []
