// Keys: single ones for the whole page, and those of the timeline as a slider.

/**
 * @param isOn whether single keys are shortcuts
 * @param acts by key
 * @param slider the timeline's canvas
 * @param seek to seconds
 * @param where returns [seconds, duration]
 */
export function listen(isOn, acts, slider, seek, where) {
  slider.addEventListener("keydown", (event) => {
    const [seconds, duration] = where();
    const places = {
      Home: 0, End: duration, PageUp: seconds + duration / 10, PageDown: seconds - duration / 10,
      ArrowUp: seconds + 1, ArrowDown: seconds - 1,
    };
    // The arrows to the sides work on a slider whether or not single keys are shortcuts.
    const act = event.key === "ArrowLeft" || event.key === "ArrowRight" ? acts[event.key] : null;
    if (!(event.key in places) && !act) return;
    event.preventDefault();
    event.stopPropagation();
    if (act) act(event);
    else seek(places[event.key]);
  });
  document.addEventListener("keydown", (event) => {
    if (!isOn() || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const { target } = event;
    const isTyping = target.matches("select, textarea, input:not([type=checkbox], [type=range])");
    const isPressing = event.key === " " && target.matches("button, input, summary, label");
    const isSliding = event.key.startsWith("Arrow") && target.matches("input[type=range]");
    const act = acts[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act || isTyping || isPressing || isSliding) return;
    event.preventDefault();
    act(event);
  });
}
