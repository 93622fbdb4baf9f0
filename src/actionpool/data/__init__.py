"""From label files to batches: sources, catalogue, splits, sampling, transforms, datasets."""

PUBLIC = {
    "catalog": "Catalog",
    "check": "CheckReport Survey survey",
    "datasets.batches": "ClassBalancedSampler EpochSampler Item LabelledDataset RestartingLoader default_num_workers",
    "datasets.flow": "adapt_to_flow reading_flow_from without_flow",
    "datasets.opening": "adapt_to_features check_recipe open_dataset",
    "example": "Example Kind Source SplitName",
    "features.file": "FeatureFile FeatureHeader FeatureWriter SUFFIX common_recipe open_features",
    "features.folder": "INDEX file_name read_index recipe_in_words write_index",
    "features.store": "FeatureSet VideoFeatures edges_of from_file hold rows_inside",
    "packs.timing": "duration_of",
    "sampling": "Clips Windows one_of_each_part parts_of_video segment_seconds stretches_of_time",
    "sources": "Example Source read_source",
    "sources.activitynet": "GRACE_SECONDS",
    "sources.base": (
        "VIDEO_SUFFIXES absolute has_video is_hidden is_video_name join_labels read_json read_text split_labels "
        "split_word"
    ),
    "sources.table": "SUFFIXES",
    "sources.thumos14": "AMBIGUOUS read_intervals read_spans",
    "splicing": "Clip SpliceSettings SplicedVideo clip_of plan_splices truth write_spliced",
    "splits": "allocate read_split_rows read_splits write_splits",
    "synthetic": "MOTIONS write_motion_clips",
    "transforms": "centre_view normalised test_transform",
}
"""What other rooms may import, by module; a test holds them to it."""
