"""The page at /docs in a browser: readable with and without scripts, and
nothing is asked of any other host.

    docs.py http://127.0.0.1:8000
"""

import json
import os
import sys
import urllib.request

from playwright.sync_api import expect, sync_playwright

base = sys.argv[1]
document = json.load(urllib.request.urlopen(f"{base}/openapi.json"))
operations = [
    (method.upper(), path, operation["operationId"])
    for path, item in document["paths"].items()
    for method, operation in item.items()
]
shots = os.environ.get("SHOTS")


def visit(browser, scripts, scheme, width):
    """Loads the page; gives it with what was wrong."""
    context = browser.new_context(
        java_script_enabled=scripts, color_scheme=scheme, viewport={"width": width, "height": 900}
    )
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
    page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
    page.on("response", lambda answer: answer.ok or wrong.append(f"{answer.status}: {answer.url}"))
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{base}/docs", wait_until="networkidle")
    foreign = [url for url in asked if not url.startswith((f"{base}/", "data:"))]
    wrong.extend(f"asked of another host: {url}" for url in foreign)
    assert len(asked) >= 2, asked
    if shots:
        page.screenshot(path=f"{shots}/docs-{scheme}-{width}-{'script' if scripts else 'plain'}.png")
    return page, wrong


def complete(page):
    """Every operation is shown and can be gone to."""
    text = page.locator("main").inner_text()
    for method, path, name in operations:
        heading = page.locator(f"section#{name} h3")
        assert heading.inner_text().split() == [method, path], f"{method} {path}: {heading.inner_text()!r}"
        assert page.locator(f"nav a[href='#{name}']").count() == 1, f"{name} is not in the contents"
    for code in ["unauthorized", "payload_too_large", "idempotency_key_reused"]:
        assert code in text, code
    links = page.eval_on_selector_all("a[href^='#']", "links => links.map(link => link.getAttribute('href'))")
    for link in set(links):
        assert page.locator(f"[id='{link[1:]}']").count() == 1, f"{link} leads nowhere"


with sync_playwright() as playwright:
    # Root in a container has no user namespaces for the browser's sandbox.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=arguments)
    try:
        for scripts, scheme, width in [(True, "light", 1400), (False, "light", 1400), (True, "dark", 1400), (True, "light", 400)]:
            page, wrong = visit(browser, scripts, scheme, width)
            assert not wrong, wrong
            complete(page)
            # Nothing is wider than the window: tables scroll by themselves.
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"too wide at {width}"
            page.context.close()

        # The filter leaves what fits and brings the rest back.
        page, wrong = visit(browser, True, "light", 1400)
        shown = page.locator("section.operation:visible")
        expect(shown).to_have_count(len(operations))
        page.keyboard.press("/")
        page.keyboard.type("redrive")
        expect(shown).to_have_count(1)
        page.locator("#filter").fill("")
        expect(shown).to_have_count(len(operations))
        assert page.locator("#base").inner_text() == base
        # The policy of the page holds against what somebody might get into it.
        page.evaluate("""() => {
            const image = document.createElement('img');
            image.src = 'https://example.com/x.png';
            document.body.append(image);
        }""")
        page.wait_for_event("console", lambda message: "Content Security Policy" in message.text, timeout=10_000) \
            if not any("Content Security Policy" in line for line in wrong) else None
        page.context.close()
    finally:
        browser.close()

print(f"/docs shows {len(operations)} operations and asks nothing of another host")
