"""Makes the pictures of the README, from rendered images: python tests/screenshots.py"""

from browser import ROOT, running_app, running_browser

TARGET = ROOT / "docs" / "screenshots"


def main() -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    with running_app() as url, running_browser() as browser:
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport={"width": 1280, "height": 1000}, color_scheme=scheme)
            page.set_default_timeout(60_000)
            page.goto(url)
            page.get_by_text("Show synthetic examples").click()
            page.locator(".mseenet-answer").nth(3).wait_for()
            page.locator(".bartext").nth(15).wait_for()
            page.wait_for_timeout(2000)  # until the bars have grown to their length
            page.screenshot(path=TARGET / f"app-{scheme}.png")
            page.close()


if __name__ == "__main__":
    main()
