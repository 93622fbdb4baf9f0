"""Scores of predictions against truth, by named protocols."""
