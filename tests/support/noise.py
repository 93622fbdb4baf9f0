"""Requests that are right in parts."""

from __future__ import annotations


def noise(rng, ids, count):
    """Requests that are right in parts."""
    words = [
        "api", "videos", "uploads", "media", "curves", "maps", "playable", "static", "app.js", "..", "%2e%2e", "%00",
        "about", "\u00e9", "0" * 16, "a" * 300, "", "%ff", "etc", "passwd", "~", "C:", "CON", *ids,
    ]  # fmt: skip
    values = [
        "0",
        "-1",
        "1e9",
        "9" * 40,
        "\u0000",
        "a.mp4",
        "../a.mp4",
        "nul.mp4\u202e",
        "",
        "\U0001f600.avi",
        "%",
        "[]",
    ]
    names = ["start", "name", "token", "x"]
    headers = {
        "Range": ["bytes=0-", "bytes=-1", "bytes=5-1", "bytes=0-0,2-3", "bytes=", "x", "bytes=-0", f"bytes={10**20}-"],
        "Content-Type": ["video/mp4", "application/octet-stream", "text/plain", "video/", ";", "multipart/form-data"],
        "Cookie": ["a=b", "=;", "actionpool-80=x"],
        "If-Range": ["x", '"a"', "Wed, 21 Oct 2015 07:28:00 GMT"],
        "Accept-Encoding": ["gzip", "*;q=x"],
    }  # fmt: skip
    for _ in range(count):
        if rng.random() < 0.6:  # a known address
            end = rng.choice(["", "/media", "/curves", "/maps", "/playable", "/localize", "/export?format=csv", "/x"])
            path = rng.choice([f"/api/videos/{rng.choice(ids)}{end}", "/api/videos", "/api/uploads", "/api/about", "/"])
        else:
            path = "/" + "/".join(rng.choice(words, int(rng.integers(1, 5))))
        yield {
            "method": str(rng.choice(["GET", "GET", "GET", "HEAD", "POST", "DELETE", "PUT", "OPTIONS"])),
            "url": str(path),
            "params": {str(rng.choice(names)): str(rng.choice(values)) for _ in range(int(rng.integers(3)))},
            "headers": {k: str(rng.choice(v)) for k, v in headers.items() if rng.random() < 0.3},
            "content": rng.bytes(int(rng.choice([0, 0, 10, 900, 1100]))),
        }  # fmt: skip
