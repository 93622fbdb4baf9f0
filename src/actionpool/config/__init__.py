"""Typed configuration of a run: sections, presets, YAML in and out."""
