"""The viewer: predictions in a browser on this machine. A server of files and numbers; the page does the rest."""
