"""Scores: tables in, reports out; nothing here knows a model or a run."""

PUBLIC = {
    "ablation": "AblationRow VideoOutcome make_row write_table",
    "blind": "BlindBaseline blind_detections blind_predictions score_blind",
    "bootstrap": "Comparison compare",
    "breakdown": "Breakdown break_down",
    "classification": "ClassificationReport VideoMapReport classification_report video_map",
    "detection": "DetectionReport score_detections",
    "files": "DETECTION_COLUMNS read_ground_truth read_predictions write_ground_truth",
    "protocols": "PROTOCOLS find_protocol with_exclusions",
    "tables": "DetectionTable GroundTruth",
    "tuning": "Search TuneResult detect fit_settings",
}
"""What other rooms may import, by module; a test holds them to it."""
