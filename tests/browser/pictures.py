"""python -m tests.browser.pictures: takes the pictures of the playground for the README and the docs again.

Of the service as it is here, with the shipped models. Needs a browser that is installed; see `make pictures`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.api.live import ROOT, Server
from tests.browser.conftest import FLAGS, NAMES

FOLDER = ROOT / "docs" / "images"
ROW = "0.04,0.05,0.06,0.02,-0.04,-0.03,-0.04,0,0.02,-0.02"
WIDE, PHONE = (1280, 900), (390, 844)
# File → address, scheme, size.
PICTURES = {
    "sweep-light": (f"#model=diabetes&x={ROW}&seed=7", "light", WIDE),
    "sweep-dark": (f"#model=diabetes&x={ROW}&seed=7", "dark", WIDE),
    "digit-light": ("#model=digits&seed=1", "light", (1280, 1180)),
    "digit-dark": ("#model=digits&seed=1", "dark", (1280, 1180)),
    "calibration-light": ("#model=diabetes&view=calibration", "light", WIDE),
    "phone-light": (f"#model=diabetes&x={ROW}", "light", PHONE),
    "phone-dark": ("#model=digits&seed=1", "dark", PHONE),
}


def take(url: str, folder: Path) -> None:
    """Every picture, with all its colours: a palette of 256 turns greys into blues and blurs what is translucent."""
    browser_path = next(filter(None, map(shutil.which, NAMES)))
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=list(FLAGS))
        for name, (address, scheme, (width, height)) in PICTURES.items():
            narrow = width < 500
            page = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme="dark" if scheme == "dark" else "light",
                reduced_motion="reduce",
                device_scale_factor=1.5 if narrow else 1.25,
                is_mobile=narrow,
                has_touch=narrow,
            )
            page.goto(f"{url}/{address}")
            page.wait_for_selector("#answer[data-done=true]")
            page.screenshot(path=folder / f"{name}.png")
            page.close()
        browser.close()


if __name__ == "__main__":
    server = Server()
    try:
        take(server.url, FOLDER)
    finally:
        server.stop()
