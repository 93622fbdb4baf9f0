"""The viewer: a server on this machine that shows predictions in a browser."""

PUBLIC = {"app": "create_app", "library": "Library PlayableCopies", "uploads": "Recognise UploadLimits UploadQueue"}
"""What other rooms may import, by module; a test holds them to it."""
