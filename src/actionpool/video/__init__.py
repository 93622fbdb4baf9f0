"""Video files: reading, probing, writing, and optical flow. The only room that imports PyAV and, for flow, OpenCV.

- ``reader``: ``VideoReader`` returns exact frames by index or time, as RGB arrays; ``Frame``.
- ``probe``: ``probe_videos`` checks files in child processes; ``near_duplicate_pairs`` finds copies.
- ``writer``: ``VideoWriter``.
- ``flow``: dense optical flow between frames, stored in 8 bits, and the folders that ``actionpool flow`` writes.

Inside the room: ``opening`` inspects a file when it is first opened, ``index`` maps frames to packets, ``decoder``
wraps FFmpeg, ``containers`` reads the outer structure of files, and ``fingerprint`` compares pictures. ``_probe_child``
is the program of the probing processes. The limits on what a video may cost are ``actionpool.values.DecodeLimits``.
"""

PUBLIC = {
    "flow": "ComputedFlow FlowFolder NO_MOTION StoredFlow open_flow write_flow",
    "probe": "ProbeResult near_duplicate_pairs probe_videos",
    "reader": "Frame VideoReader ffmpeg_versions",
    "writer": "VideoWriter",
}
"""What other rooms may import, by module; a test holds them to it."""
