"""Backbones, pooling, aggregation, and the one composition of the three."""

PUBLIC = {
    "backbones": "Backbone Features",
    "build": "backbone_input build_backbone build_pooling build_recognizer resolve_transform",
    "folding": "fold_batch_norms fuse_activations fuse_sums",
    "freezing": "freeze",
    "losses": "co_activity_loss sparsity_loss video_bce video_nll",
    "pooling": "Pooling PoolingOutput",
    "recognizer": "Recognizer",
    "weights": "Pretrained check_tensors load_tensors load_weights open_pretrained",
}
"""What other rooms may import, by module; a test holds them to it."""
