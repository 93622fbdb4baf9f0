"""Typed configuration of a run: sections, presets, YAML in and out."""

PUBLIC = {
    "loading": (
        "check_losses load_config override parse_config parse_localize parse_saved parse_saved_localize preset "
        "read_overrides to_yaml"
    ),
    "model": (
        "AggregationConfig AttentionConfig AveragePoolingConfig BaSNetConfig BackboneConfig DATPConfig "
        "DFPConfig FeaturesBackbone GatedC3DBackbone GatedC3DSimpleBackbone GridMLPConfig I3DBackbone MaxConfig "
        "MeanConfig ModelConfig MomentsConfig MotionConfig PoolingConfig Strict TSNBackbone TopKConfig "
        "VSAMConfig VideoBackboneConfig"
    ),
    "options": (
        "AblateOptions Compute DataOptions Device EvaluateOptions ExtractOptions FlowOptions Overrides "
        "Precision PredictOptions SourceOptions SpliceOptions TrainOptions ViewOptions ViewerOptions "
        "assignments option_of"
    ),
    "presets": "FLOW_RECIPES PRESETS RECIPES",
    "sections": (
        "Config DataConfig FeatureRecipe FeatureRowsConfig FeatureType FlowConfig FlowRecipe LocalizeSettings "
        "SamplingConfig TrainConfig TransformConfig"
    ),
}
"""What other rooms may import, by module; a test holds them to it."""
