"""Training data, and true correspondences of real photos.

files, shards, packs ── sources ──> photos and views, by number
pair number ── plan ──> PairPlan ── render ──> hr, lr, refs, truth_cells, on the device
                                      │
      sample: pixels; scene: planes and relief; light: photometric augmentation; refsr.degrade: the LR image

two photos ── features ── truth ──> dense correspondences, where they are verified
"""
