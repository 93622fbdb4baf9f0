"""Figures, videos and reports of predictions and scores, drawn from files in ``results``, never from a model."""

PUBLIC = {
    "moments": "Moments",
    "overlay_video": "write_annotated write_overlay",
    "report": "render_report",
    "saliency": "SaliencyTrack plot_saliency",
    "timeline_plot": "plot_timeline",
}
"""What other rooms may import, by module; a test holds them to it."""
