// Uploads: a file goes to the server, waits its turn, and becomes a video of the list, or is refused with a reason.

import * as api from "./api.js";
import { element } from "./format.js";

const STATES = {
  waiting: "waiting", probing: "checking the file", recognising: "recognising", done: "done", refused: "refused",
};

export class Uploads {
  /** @param limits of the server @param act {done(videoId), removed(videoId)} */
  constructor({ dialog, open, drop, file, list, note }, limits, act) {
    Object.assign(this, { dialog, list, limits, act });
    this.items = new Map();
    note.textContent =
      `Up to ${Math.round(limits.max_bytes / 2 ** 20)} MB and ${Math.round(limits.max_seconds)} seconds. ` +
      "The file stays on this machine and is deleted when the viewer stops.";
    open.hidden = false;
    open.addEventListener("click", () => dialog.showModal());
    file.addEventListener("change", () => {
      for (const one of file.files) this.send(one);
      file.value = "";
    });
    for (const name of ["dragenter", "dragover"]) {
      window.addEventListener(name, (event) => {
        if (!event.dataTransfer?.types.includes("Files")) return;
        event.preventDefault();
        if (!dialog.open) dialog.showModal();
        drop.classList.add("over");
      });
    }
    window.addEventListener("drop", (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      for (const one of event.dataTransfer?.files ?? []) this.send(one);
    });
    drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  }

  async send(file) {
    const item = this.item(file.name);
    if (file.size > this.limits.max_bytes) {
      this.refuse(item, `The file is larger than ${Math.round(this.limits.max_bytes / 2 ** 20)} MB`);
      return;
    }
    try {
      const { id } = await api.upload(file, (share) => {
        item.bar.value = share;
        item.state.textContent = share < 1 ? `sending, ${Math.round(100 * share)}%` : "sent";
      });
      item.bar.removeAttribute("value");
      await this.follow(id, item);
    } catch (error) {
      this.refuse(item, error.message);
    }
  }

  async follow(id, item) {
    for (;;) {
      const { uploads } = await api.uploads();
      const found = uploads.find((one) => one.id === id);
      if (!found) throw new api.ServerError("It was deleted to make room for newer ones.");
      if (found.state === "refused") throw new api.ServerError(found.reason);
      item.state.textContent = STATES[found.state] ?? found.state;
      if (found.state === "done") {
        this.finish(id, found.video_id, item);
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  }

  finish(id, videoId, item) {
    item.bar.remove();
    const show = element("button", { type: "button" }, "Show");
    show.addEventListener("click", () => {
      this.dialog.close();
      this.act.show(videoId);
    });
    const remove = element("button", { type: "button" }, "Delete");
    remove.addEventListener("click", async () => {
      try {
        await api.removeUpload(id);
      } catch (error) {
        item.state.textContent = error.message;
        return;
      }
      item.line.remove();
      this.act.removed(videoId);
    });
    item.buttons.append(show, remove);
    this.act.done(videoId);
  }

  refuse(item, reason) {
    item.bar.remove();
    item.state.textContent = `Refused: ${reason}`;
    item.state.classList.add("bad");
  }

  item(name) {
    const state = element("span", { class: "state" }, "sending");
    const bar = element("progress", { max: "1", "aria-label": `Progress of ${name}` });
    const buttons = element("span");
    const line = element("li", {}, element("span", { class: "clip" }, name), buttons, state, bar);
    this.list.prepend(line);
    return { state, bar, buttons, line };
  }
}
