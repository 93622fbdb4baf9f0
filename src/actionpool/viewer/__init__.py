"""The viewer: a server on this machine that shows predictions in a browser."""
