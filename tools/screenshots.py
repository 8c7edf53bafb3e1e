"""Makes the pictures of README and docs, from rendered images: make screenshots"""

from PIL import Image

from mseenet.case.pictures import encoded
from mseenet.imaging.synthetic import STYLES, render_field
from tools.browser import ROOT, running_app, running_browser

TARGET = ROOT / "docs" / "screenshots"
FIELDS = 10
SCREENS = (("light", 1440, 1480), ("dark", 800, 2300))


def main() -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    files = [
        {"name": f"field {i:02d}.png", "mimeType": "image/png", "buffer": encoded(field, "PNG")}
        for i, field in enumerate(
            Image.fromarray(render_field(STYLES[i % 4], 20 + i)) for i in range(FIELDS)
        )
    ]
    with running_app() as url, running_browser() as browser:
        for scheme, width, height in SCREENS:
            page = browser.new_page(
                viewport={"width": width, "height": height}, color_scheme=scheme
            )
            page.set_default_timeout(120_000)  # the first page waits for TensorFlow
            page.goto(url)
            page.locator("input[type=file]").first.set_input_files(files)
            page.locator(".mseenet-tiles li", has_text=f"{FIELDS}fields").wait_for()
            if scheme == "dark":
                page.get_by_text("Gallery", exact=True).click()
            page.locator(".st-key-pictures .heat").wait_for()
            page.wait_for_timeout(2500)  # until the charts have grown
            page.screenshot(path=TARGET / f"analyse-{scheme}.png")
            if scheme == "light":
                page.get_by_role("link", name="Model", exact=True).click()
                page.locator(".st-key-model-page .js-plotly-plot").first.wait_for()
                page.wait_for_timeout(2500)
                page.screenshot(path=TARGET / "model-light.png")
            page.close()


if __name__ == "__main__":
    main()
