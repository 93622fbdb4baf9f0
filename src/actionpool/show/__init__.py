"""Figures, videos and reports of predictions and scores, drawn from files in ``results``, never from a model."""
