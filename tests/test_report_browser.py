"""Reports in a real browser: they load without an error, what is chosen is shown, and the pointer tells values."""

import pytest
from helpers_report import browser_paths, unchecked

from factory.report import report
from factory.store import open_store

pytestmark = [pytest.mark.browser, pytest.mark.untyped]
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1100,900",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver

    paths = browser_paths()
    if paths is None:
        pytest.skip("Chromium and chromedriver are not installed (Debian: apt install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = paths[0]
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(paths[1]))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(shown, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    sources = [shown.store, shown.export]
    with unchecked():
        return {
            split: report(sources, folder / f"{split}.html", dumps=(shown.dump,), split=split)
            for split in (False, True)
        }


def choose(browser, selector: str, value) -> None:
    from selenium.webdriver.support.select import Select

    Select(browser.find_element("css selector", selector)).select_by_visible_text(str(value))


def point(browser, role: str, across: float, down: float) -> str:
    """Put the pointer over a panel, at shares of its width and height, and return what is told."""
    from selenium.webdriver.common.actions.action_builder import ActionBuilder

    x, y = browser.execute_script(
        """const [role, across, down] = arguments;
        const canvas = document.querySelector(`.chosen canvas[data-role="${role}"]`);
        canvas.scrollIntoView({block: "center"});
        canvas.parentElement.scrollLeft = across * canvas.clientWidth - 100;
        const box = canvas.getBoundingClientRect();
        return [box.left + across * box.width, box.top + down * box.height];""",
        role, across, down,
    )  # fmt: skip
    actions = ActionBuilder(browser)
    actions.pointer_action.move_to_location(int(x), int(y))
    actions.perform()
    return browser.find_element("css selector", "output").text


@pytest.mark.parametrize("split", [False, True])
def test_choosing_and_pointing_show_the_store_s_values(browser, pages, shown, split):
    browser.get(pages[split].as_uri())
    assert browser.get_log("browser") == []
    assert browser.find_element("id", "layer-maps").is_displayed()
    assert not browser.find_element("id", "layer-line").is_displayed()
    choose(browser, "#choose-layer", "line")
    assert browser.find_element("id", "layer-line").is_displayed()
    for axis, label in dict(image=1, kij=5).items():
        choose(browser, f'.chosen select[data-axis="{axis}"]', label)
    with open_store(shown.store) as store:
        layer = store.layer("line")
        nij, lane = 22, 4
        where = f"line, image 1, it 0, nij {nij}, row {lane}"
        at = (nij + 0.5) / 36, (lane + 0.5) / 8
        assert point(browser, "activation", *at) == f"activation {layer.activation_tile[1, 0, nij, lane]} at {where}"
        value = layer.psum[1, 0, 0, 5, nij, lane]
        assert value != 0
        where = f"line, image 1, it 0, ot 0, kij 5, nij {nij}, col {lane}"
        assert point(browser, "psum", *at) == f"psum {value} at {where}"
        col, y, x = 3, 2, 1  # maps of 4 x 4, of which each has a column of nothing after it
        across = (col * 5 + x + 0.5) / (8 * 5 - 1)
        where = f"line, image 1, ot 0, onij {4 * y + x}, col {col}"
        value = layer.accumulator[1, col, y, x]
        assert point(browser, "accumulator", across, (y + 0.5) / 4) == f"accumulator {value} at {where}"
        choose(browser, "#choose-layer", "maps")
        choose(browser, '.chosen select[data-axis="it"]', 7)
        held, (kij, col, row) = store.layer("maps"), (2, 6, 3)
        where = f"maps, it 7, ot 0, kij {kij}, col {col}, row {row}"
        value = held.weight_tile[7, 0, kij, col, row]
        across = (kij * 9 + row + 0.5) / (9 * 9 - 1)
        assert point(browser, "weight", across, (col + 0.5) / 8) == f"weight {value} at {where}"
        tiles, (nij, row) = held.activation_tile[0, 7], (16, 2)  # the second row of a padded map of 14 x 14
        told = f"activation {tiles[nij, row]} at maps, image 0, it 7, nij {nij}, row {row}"
        assert point(browser, "activation", (row * 15 + 2.5) / (8 * 15 - 1), 1.5 / 14) == told
        choose(browser, '.chosen select[data-axis="view"]', "lane × nij")
        assert point(browser, "activation", (nij + 0.5) / 196, (row + 0.5) / 8) == told
    assert browser.get_log("browser") == []


def test_a_page_is_complete_without_a_script(browser, pages):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(pages[False].as_uri())
        layers = browser.find_elements("css selector", ".layer")
        assert len(layers) == 2 and all(layer.is_displayed() for layer in layers)
        assert all(figure.is_displayed() for figure in browser.find_elements("css selector", ".static"))
        assert not browser.find_element("css selector", ".chooser").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_themes_differ_and_a_phone_does_not_scroll_sideways(browser, pages):
    grounds = {}
    for theme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": theme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        browser.get(pages[False].as_uri())
        script = "return [document.documentElement, document.querySelector('figure svg text')].map((x, n) => "
        grounds[theme] = browser.execute_script(f"{script} getComputedStyle(x)[n ? 'fill' : 'backgroundColor'])")
    assert grounds["light"][0] == "rgb(245, 246, 248)" and grounds["dark"][0] == "rgb(18, 22, 27)"
    assert grounds["light"][1] != grounds["dark"][1]
    phone = dict(width=390, height=800, deviceScaleFactor=1, mobile=True)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        for path in pages.values():
            browser.get(path.as_uri())
            assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
