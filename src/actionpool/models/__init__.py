"""Backbones, pooling, aggregation, and the one composition of the three."""
