"""Feature packs of others, read unchanged: their arrays stay where they are, and nothing in them is ever run."""
