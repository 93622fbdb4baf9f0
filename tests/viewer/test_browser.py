"""The page in a real browser: every way to act on it, and what a screen reader is told."""

from __future__ import annotations

import json
import re

import pytest

from actionpool.evaluation.files import read_predictions
from actionpool.results.prediction import read_prediction
from support.viewing import running


@pytest.fixture(scope="module")
def address(out):
    with running(out) as address:
        yield address


@pytest.fixture(scope="module")
def context(browser):
    context = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    yield context
    context.close()


@pytest.fixture
def page(context, address):
    page = context.new_page()
    page.set_default_timeout(20_000)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    wait_for_video(page)
    yield page
    page.evaluate("() => localStorage.clear()")
    page.close()
    assert not errors


_SHOWN = """(name) => document.getElementById("name").textContent === name
    && document.getElementById("stage").ariaBusy === 'false'"""


def wait_for_video(page, name="clip_0.mp4"):
    page.wait_for_function(
        f"""{_SHOWN} && document.getElementById("video").readyState >= 2
        && !document.getElementById("message").textContent""",
        arg=name,
    )


def seconds(page):
    return page.evaluate("document.getElementById('video').currentTime")


def at_rest(page):
    page.wait_for_function("() => !document.getElementById('video').seeking")
    return seconds(page)


def choose(page, name):
    page.locator(".item", has_text=name).click()
    page.wait_for_function(_SHOWN, arg=name)


def x_of(page, at):
    """Where a time lies on the timeline, in pixels of its canvas."""
    box = page.locator("#timeline").bounding_box()
    return 128 + at / 6.0 * (box["width"] - 128 - 50)


def table(page):
    """(class, start, end) of each row, seconds to two places."""
    rows = page.evaluate(
        """() => [...document.querySelectorAll("#intervals tr")].filter((row) => row.querySelector("input"))
        .map((row) => [row.querySelector("select")?.value ?? row.querySelector("button").textContent,
          ...[...row.querySelectorAll("input")].map((box) => Number(box.value))])"""
    )
    return [tuple(row) for row in rows]


def same(found, expected):
    """Rows of a table and intervals, up to the two places that the table shows."""
    assert [label for label, _, _ in found] == [label for label, _, _ in expected]
    for one, other in zip(found, expected, strict=True):
        assert one[1:] == pytest.approx(other[1:], abs=0.006)


def row_of(page, label):
    """Middle of the curve of a class on the timeline, in pixels of its canvas."""
    rows = page.evaluate(
        "() => [...document.querySelectorAll('#classes input:checked')].map((one) => one.dataset.label)"
    )
    return 22 + rows.index(label) * 58 + 15


def slide(page, id, value):
    page.locator(f"#{id}").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})); }", value
    )
    page.wait_for_function("() => document.getElementById('settings').ariaBusy === 'false'")


def test_the_address_loses_its_token(page):
    assert page.url.endswith("/") and "token" not in page.url
    assert page.evaluate("document.cookie") == ""


def test_the_page_shows_what_was_predicted(page, out):
    prediction = read_prediction(out / "clip_0.mp4.json")
    label, probability = prediction.top(1)[0]
    assert page.inner_text("#answer") == f"{label} · {round(100 * probability)}%"
    same(table(page), [(d.label, d.start_seconds, d.end_seconds) for d in prediction.detections])
    assert page.locator("#settings-note").inner_text().startswith("As predicted")


def test_finding_again_gives_what_the_prediction_holds(page, out):
    prediction = read_prediction(out / "clip_0.mp4.json")
    before = table(page)
    slide(page, "min-length", "0")  # the same value
    assert page.locator("#settings-note").inner_text().startswith("Found again")
    assert table(page) == before and len(before) == len(prediction.detections)


def test_sliders_drop_and_find_intervals_and_can_be_undone(page, out):
    before = table(page)
    slide(page, "min-length", "1.5")
    assert page.inner_text("#min-length-value") == "1.50 s"
    longer = table(page)
    assert longer != before and all(end - start >= 1.49 for _, start, end in longer)
    slide(page, "min-score", "2")
    assert "None. Lower a threshold" in page.inner_text("#intervals")
    page.click("#reset")
    assert table(page) == before
    slide(page, "threshold", "0.5")
    assert page.inner_text("#threshold-value") == "0.50"
    assert table(page) != before
    slide(page, "class-threshold", "1")
    assert page.inner_text("#interval-count") == "0 intervals"


def test_click_and_drag_on_the_timeline_seek(page):
    page.locator("#timeline").click(position={"x": x_of(page, 3.0), "y": 40})
    assert at_rest(page) == pytest.approx(3.0, abs=0.02)
    box = page.locator("#timeline").bounding_box()
    page.mouse.move(box["x"] + x_of(page, 1.0), box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + x_of(page, 2.0), box["y"] + 30)
    page.mouse.move(box["x"] + x_of(page, 4.5), box["y"] + 30)
    page.mouse.up()
    assert at_rest(page) == pytest.approx(4.5, abs=0.02)
    assert page.get_attribute("#timeline", "aria-valuenow") == f"{seconds(page):.2f}"


def test_hover_tells_values(page):
    page.locator("#timeline").hover(position={"x": x_of(page, 2.0), "y": row_of(page, "rise")})
    said = page.text_content("#tooltip").split("\n")
    assert re.fullmatch(r"0:0[12]\.\d\d  rise", said[0])
    assert re.fullmatch(r"class score 0\.\d{3}", said[1])
    assert re.fullmatch(r"relevance [01]\.\d+", said[2])
    assert said[3] == "truth rise 0:01.20 – 0:02.70"
    assert all(re.fullmatch(r"detection rise .*, score \d\.\d{3}", line) for line in said[4:])
    page.mouse.move(5, 5)
    assert page.locator("#tooltip").is_hidden()


def test_keys(page):
    page.keyboard.press("ArrowRight")
    assert at_rest(page) == pytest.approx(0.15)  # the middle of frame 1 at 10 fps
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert at_rest(page) == pytest.approx(0.15)
    page.keyboard.press("Shift+ArrowRight")
    assert at_rest(page) == pytest.approx(1.15)
    page.keyboard.press(" ")
    page.wait_for_function("() => !document.getElementById('video').paused")
    assert page.get_attribute("#play", "aria-label") == "Pause"
    page.keyboard.press(" ")
    assert page.evaluate("document.getElementById('video').paused")


def test_keys_go_from_interval_to_interval(page):
    starts = sorted(start for _, start, _ in table(page) if start > 0)[:6]
    seen = []
    for _ in starts:
        page.keyboard.press("]")
        seen.append(at_rest(page))
    assert seen == pytest.approx(starts, abs=0.02)
    page.keyboard.press("[")
    assert at_rest(page) == pytest.approx(starts[-2], abs=0.02)
    assert page.locator("#intervals tr.selected").count() == 1


def test_keys_go_from_video_to_video(page):
    page.keyboard.press("n")
    wait_for_video(page, "clip_1.mp4")
    page.keyboard.press("p")
    wait_for_video(page)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("n s?")  # letters in a field are letters
    assert page.input_value("#search") == "n s?"
    assert page.inner_text("#name") == "clip_0.mp4"


def test_help_and_switching_single_keys_off(page):
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.uncheck("#keys-on")
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    assert page.inner_text("#name") == "clip_0.mp4"
    page.focus("#timeline")
    page.keyboard.press("ArrowRight")  # the slider's own keys stay
    assert at_rest(page) == pytest.approx(0.15)
    page.keyboard.press("End")
    assert at_rest(page) == pytest.approx(6.0, abs=0.05)


def test_zoom(page):
    page.locator("#timeline").click(position={"x": x_of(page, 3.0), "y": 40})
    at_rest(page)
    page.keyboard.press("+")
    page.locator("#timeline").click(position={"x": x_of(page, 6.0) - 1, "y": 40})
    assert at_rest(page) == pytest.approx(4.5, abs=0.05)  # half the video is in sight, around the middle
    page.click("#zoom-fit")
    page.locator("#timeline").click(position={"x": x_of(page, 1.0), "y": 40})
    assert at_rest(page) == pytest.approx(1.0, abs=0.02)


def test_saliency_on_and_off(page):
    assert page.locator("#saliency-canvas").is_hidden()
    page.keyboard.press("s")
    page.wait_for_selector("#saliency-canvas:visible")
    inked = """() => { const c = document.getElementById("saliency-canvas");
        return c.getContext("2d").getImageData(0, 0, c.width, c.height).data.some((value) => value > 0); }"""
    page.wait_for_function(inked)
    page.uncheck("#saliency")
    assert page.locator("#saliency-canvas").is_hidden()
    choose(page, "old.avi")
    page.wait_for_function("() => document.getElementById('saliency').disabled")


def test_classes_filter_rows_and_intervals(page):
    labels = {label for label, _, _ in table(page)}
    page.click("#classes-none")
    assert "None." in page.inner_text("#intervals")
    one = sorted(labels)[0]
    page.locator(f"#classes input[data-label={one}]").check()
    assert {label for label, _, _ in table(page)} == {one}
    page.fill("#class-search", "ris")
    assert page.locator("#classes li").count() == 1
    page.fill("#class-search", "")
    page.click("#classes-likely")
    assert {label for label, _, _ in table(page)} == labels


def test_search_and_sort(page, out):
    page.fill("#search", "clip_")
    assert page.inner_text("#count") == "3 of 8 videos"
    assert page.locator(".item").count() == 3
    page.fill("#search", "")
    scores = {path.name[:-5]: read_prediction(path).top(1)[0][1] for path in sorted(out.glob("clip_*.json"))}
    page.select_option("#sort", "score-down")
    names = page.locator(".item .title").all_inner_texts()
    assert [name for name in names if name in scores] == sorted(scores, key=lambda name: -scores[name])
    page.select_option("#sort", "disagreement")
    said = [int(text[2:-1]) for text in page.locator(".item .pill", has_text="≠").all_inner_texts()]
    assert said == sorted(said, reverse=True) and len(said) == 6
    page.select_option("#sort", "problem")
    assert "is no prediction" in page.locator(".item").first.inner_text()


def test_intervals_are_edited_and_saved(page, tmp_path):
    box = page.locator("#intervals input").first
    box.fill("0.5")
    box.press("Tab")
    assert table(page)[0][1] == 0.5
    assert page.locator("#settings-note").inner_text().startswith("Edited by hand")
    assert page.locator("#threshold").is_disabled()
    page.locator("#intervals tr").nth(1).locator("button", has_text="✕").click()
    page.click("#add")
    page.locator("#intervals tr.selected select").select_option("pulse")
    rows = table(page)
    page.select_option("#format", "activitynet")
    with page.expect_download() as saving:
        page.click("#export")
    assert saving.value.suggested_filename == "clip_0.mp4.json"
    saving.value.save_as(tmp_path / "a.json")
    (found,) = json.loads((tmp_path / "a.json").read_text())["results"].values()
    same(rows, [(one["label"], *one["segment"]) for one in found])
    assert found[-1]["label"] == "pulse"
    read_predictions(tmp_path / "a.json")
    for format, suffix in (("csv", "csv"), ("srt", "srt"), ("vtt", "vtt")):
        page.select_option("#format", format)
        with page.expect_download() as saving:
            page.click("#export")
        assert saving.value.suggested_filename == f"clip_0.mp4.{suffix}"
    page.click("#reset")
    assert not page.locator("#threshold").is_disabled()


def test_what_the_server_refuses_is_shown(page):
    before = table(page)
    page.route("**/localize", lambda route: route.fulfill(status=422, json={"detail": "no intervals today"}))
    slide(page, "min-length", "1.5")
    assert page.inner_text("#settings-note") == "no intervals today" and table(page) == before
    page.unroute("**/localize")
    slide(page, "min-length", "1.4")
    assert page.inner_text("#settings-note").startswith("Found again") and table(page) != before
    page.route("**/export*", lambda route: route.abort())
    page.click("#export")
    page.wait_for_selector("#complaint:visible")
    assert "The viewer does not answer" in page.inner_text("#complaint")
    page.click("#complaint")
    assert page.locator("#complaint").is_hidden()
    page.unroute("**/export*")


def test_a_slider_that_moves_on_is_followed_with_few_requests(page):
    asked = []
    page.on("request", lambda request: "/localize" in request.url and asked.append(request.post_data_json))
    page.evaluate("""() => { const slider = document.getElementById("min-length");
        for (let step = 0; step <= 40; step++) {
            slider.value = step / 20;
            slider.dispatchEvent(new Event("input", { bubbles: true }));
        } }""")
    page.wait_for_function("() => document.getElementById('settings').ariaBusy === 'false'")
    assert asked[-1] == {"min_length_seconds": 2} and len(asked) == 2
    assert all(end - start >= 1.99 for _, start, end in table(page))


def test_ends_are_dragged_on_the_timeline(page):
    page.locator("#intervals button").first.click()  # selects the surest one
    label, start, end = table(page)[0]
    box = page.locator("#timeline").bounding_box()
    y = box["y"] + row_of(page, label) + 31  # the band of detections
    page.mouse.move(box["x"] + x_of(page, end), y)
    page.mouse.down()
    page.mouse.move(box["x"] + x_of(page, end - 0.2), y)
    page.mouse.move(box["x"] + x_of(page, end - 0.3), y)
    page.mouse.up()
    assert table(page)[0][:2] == (label, start)
    assert table(page)[0][2] == pytest.approx(end - 0.3, abs=0.03)


def test_videos_that_cannot_be_shown_say_why(page):
    choose(page, "gone.mp4")
    page.wait_for_selector("#message:visible")
    assert "is not there; start the viewer with --videos FOLDER" in page.inner_text("#message")
    page.keyboard.press("]")  # the timeline works without
    assert page.locator("#intervals tr.selected").count() == 1
    choose(page, "cut_off.mp4")
    page.wait_for_function("() => document.getElementById('message').textContent.includes('is no prediction')")
    assert page.locator("#export").is_disabled()
    choose(page, "lost_curves.mp4")
    page.wait_for_selector("#curves-problem:visible")
    assert "cannot be read as curves" in page.inner_text("#curves-problem")
    assert page.locator("#threshold").is_disabled() and len(table(page)) > 0


def test_an_avi_is_played_through_a_copy(page):
    choose(page, "old.avi")
    wait_for_video(page, "old.avi")
    assert page.evaluate("document.getElementById('video').src").endswith("/playable")
    page.keyboard.press("ArrowRight")
    assert at_rest(page) == pytest.approx(0.15)


def test_everything_is_reached_by_tab_with_a_visible_focus(page):
    reached = []
    page.evaluate("document.activeElement.blur()")
    for _ in range(200):
        page.keyboard.press("Tab")
        id, width = page.evaluate("[document.activeElement.id, getComputedStyle(document.activeElement).outlineStyle]")
        if id in reached and id:
            break
        if id:
            reached.append(id)
            assert width != "none", id
    for id in ("search", "sort", "list", "play", "timeline", "classes", "threshold", "min-length", "add", "export"):
        assert id in reached, id


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(page, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page.select_option("#theme", theme)
    page.keyboard.press("]")
    found = axe.Axe().run(page).response["violations"]
    page.keyboard.press("?")
    found += axe.Axe().run(page).response["violations"]
    assert not [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]


def test_two_thousand_videos_have_few_elements(browser, tmp_path):
    from actionpool.results.prediction import write_prediction
    from support.viewing import made_up

    prediction, _ = made_up("none.mp4", num_segments=2)
    write_prediction(tmp_path / "0000.mp4.json", prediction)
    text = (tmp_path / "0000.mp4.json").read_text()
    for index in range(1, 2000):
        (tmp_path / f"{index:04d}.mp4.json").write_text(text)
    with running(tmp_path) as address:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_function("() => document.getElementById('count').textContent === '2,000 videos'")
        assert page.locator(".item").count() < 40
        page.focus("#list")
        page.keyboard.press("End")
        assert page.inner_text("#name") == "1999.mp4"
        assert page.locator(".item[aria-selected=true]").get_attribute("aria-posinset") == "2000"
        assert page.locator(".item").count() < 40
        page.close()
