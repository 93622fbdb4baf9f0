"""Everything on disk that others read: run folders, predictions, evaluations."""

PUBLIC = {
    "evaluation": (
        "DetectionScore Evaluation SavedBreakdown SavedDetectionReport SavedEvaluation ScoredVideo "
        "list_evaluations read_evaluation write_evaluation"
    ),
    "exports": "PredictionWriter parse_formats write_detections",
    "prediction": (
        "ModelReference PredictedVideo Predictions Provenance ScoredInterval SpatialView Target VideoPrediction "
        "read_curves read_prediction unique_names"
    ),
    "run": "RunFolder command_line environment find_predictions",
}
"""What other rooms may import, by module; a test holds them to it."""
