// The video: native playback, exact frames, and a clock of its own where there is no video.

import { mediaAddress, playableAddress, prepareCopy } from "./api.js";

export class Player {
  /** @param parts {video, message} @param onTime called with the seconds of the frame in sight */
  constructor({ video, message }, onTime) {
    Object.assign(this, { video, message, onTime });
    this.facts = null;
    this.clock = 0;
    video.addEventListener("error", () => this.failed());
    video.addEventListener("loadedmetadata", () => {
      // A file may have sound that plays and a picture that does not.
      if (!video.videoWidth) this.failed();
      else if (this.wanted) video.currentTime = this.wanted;
    });
    video.addEventListener("loadeddata", () => this.say(""));
    for (const name of ["timeupdate", "seeking", "seeked"]) video.addEventListener(name, () => this.onTime(this.seconds));
    if ("requestVideoFrameCallback" in video) this.follow();
  }

  follow() {
    this.video.requestVideoFrameCallback((now, { mediaTime }) => {
      if (!this.video.paused) this.onTime(mediaTime);
      this.follow();
    });
  }

  show(facts) {
    this.facts = facts;
    this.clock = this.wanted = 0;
    this.isCopy = false;
    this.video.pause();
    if (facts.has_media) {
      this.say("");
      this.hasVideo = true;
      this.video.src = mediaAddress(facts.id);
    } else {
      this.empty(facts.media_problem);
    }
  }

  /** Show nothing while the next video is loaded. */
  leave() {
    this.video.pause();
    this.empty("");
    this.facts = null;
  }

  /** No video; the clock goes on without. */
  empty(reason) {
    this.clock = this.seconds;
    this.hasVideo = false;
    this.video.removeAttribute("src");
    this.video.load();
    this.say(reason);
  }

  say(sentence) {
    this.message.textContent = sentence;
    this.message.hidden = !sentence;
  }

  async failed() {
    if (!this.hasVideo) return;
    const { facts } = this;
    if (this.isCopy) {
      this.empty("This browser does not play the video, nor an H.264 copy of it.");
      return;
    }
    this.isCopy = true;
    this.wanted = this.seconds;
    this.say("This browser does not play the file as it is. Making a copy that it plays…");
    try {
      await prepareCopy(facts.id);
      if (this.facts === facts) this.video.src = playableAddress(facts.id);
    } catch (error) {
      if (this.facts === facts) this.empty(error.message);
    }
  }

  get seconds() {
    return this.hasVideo && this.video.readyState ? this.video.currentTime : this.wanted || this.clock;
  }

  seek(seconds) {
    const held = Math.min(Math.max(seconds, 0), this.facts?.duration_seconds ?? 0);
    if (!this.hasVideo) this.clock = held;
    else if (this.video.readyState) this.video.currentTime = held;
    this.wanted = held;
    this.onTime(held);
  }

  get fps() {
    return this.facts?.fps > 0 ? this.facts.fps : 25;
  }

  /** The frame in sight, from 0. */
  get frame() {
    return Math.min(Math.floor(this.seconds * this.fps + 1e-4), (this.facts?.num_frames ?? 1) - 1);
  }

  /** To the middle of a frame that many frames on. */
  step(frames) {
    this.video.pause();
    const last = (this.facts?.num_frames ?? 1) - 1;
    this.seek((Math.min(Math.max(this.frame + frames, 0), last) + 0.5) / this.fps);
  }

  toggle() {
    if (!this.hasVideo) return;
    if (this.video.paused) this.video.play().catch(() => {});
    else this.video.pause();
  }

  /** Where the picture lies in the element: {left, top, width, height} in CSS pixels. */
  picture() {
    const { clientWidth, clientHeight, videoWidth, videoHeight } = this.video;
    const [across, down] = videoWidth ? [videoWidth, videoHeight] : [this.facts?.width ?? 1, this.facts?.height ?? 1];
    const scale = Math.min(clientWidth / across, clientHeight / down);
    const [width, height] = [across * scale, down * scale];
    return { left: (clientWidth - width) / 2, top: (clientHeight - height) / 2, width, height };
  }
}
