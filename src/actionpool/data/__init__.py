"""From label files to batches: sources, catalogue, splits, sampling, transforms, datasets."""
