"""A trained run at work: checkpoints, devices, scoring, localisation, saliency."""

PUBLIC = {
    "checkpoint": "TrainedRecognizer load save_checkpoint",
    "device": "cpu_has_bf16 resolve_device resolve_precision",
    "extractor": "Extractor WindowSettings make_extractor open_network",
    "localizer": "Localizer open_localizer truth_of write_fitted",
    "scoring": "open_scorer score_streams score_videos seen_through views_in_words with_views",
    "streams": "Stream Streams open_streams",
    "targets": "find_targets",
    "whole_videos": "Scanned scan",
}
"""What other rooms may import, by module; a test holds them to it."""
