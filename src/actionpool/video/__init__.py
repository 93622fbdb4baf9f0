"""Video files in and out: reading, probing, writing. Nothing heavy is imported before it is asked for."""
