"""From prepared data to trained weights."""

PUBLIC = {"fit": "fit train_head", "prepared": "PreparedData prepare settle", "writer": "RunWriter"}
"""What other rooms may import, by module; a test holds them to it."""
