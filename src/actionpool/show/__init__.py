"""Pictures of predictions: they read ``VideoPrediction``, never a model."""
