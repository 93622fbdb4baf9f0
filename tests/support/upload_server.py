"""A viewer that accepts uploads, for tests."""

from __future__ import annotations

import time

from fastapi.testclient import TestClient

from actionpool.results.prediction import write_prediction
from actionpool.viewer.uploads import UploadLimits, UploadQueue
from support.viewing import TOKEN, made_up, make_app

KIND = {"Content-Type": "video/mp4"}


class Server:
    """A client of a viewer that takes uploads, recognised by nobody: predictions are made up."""

    def __init__(self, folder, *, recognise=None, **limits):
        def queue(library):
            self.queue = UploadQueue(library, recognise or self.recognise, UploadLimits(**limits))
            return self.queue

        app, self.library = make_app(folder / "none", uploads=queue)
        self.client = TestClient(app, base_url="http://127.0.0.1:80")
        self.client.get(f"/?token={TOKEN}")

    @staticmethod
    def recognise(video, output):
        path = output / f"{video.name}.json"
        write_prediction(path, *made_up(video))
        return path

    def send(self, content, name="a clip.mp4", headers=KIND):
        return self.client.post("/api/uploads", params={"name": name}, content=content, headers=headers)

    def wait(self, id):
        for _ in range(600):
            (found,) = [one for one in self.client.get("/api/uploads").json()["uploads"] if one["id"] == id]
            if found["state"] in ("done", "refused"):
                return found
            time.sleep(0.05)
        raise AssertionError(found)

    def files(self):
        return [path for path in self.queue._folder.rglob("*") if path.is_file()]
