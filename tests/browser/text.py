"""What web.fetch makes of pages, beside what a browser shows of them: the same
text, and links to the same places.

    text.py http://127.0.0.1:8000
"""

import functools
import http.server
import json
import os
import pathlib
import re
import sys
import threading
import time
import unicodedata
import urllib.request

from playwright.sync_api import sync_playwright

base, admin_key = sys.argv[1], os.environ["ADMIN_KEY"]
folder = pathlib.Path(__file__).parent / "pages"


class Pages(http.server.SimpleHTTPRequestHandler):
    extensions_map = {".html": "text/html; charset=utf-8", ".xhtml": "application/xhtml+xml", "": "text/plain"}

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Pages, directory=folder))
threading.Thread(target=server.serve_forever, daemon=True).start()
site = f"http://127.0.0.1:{server.server_port}"


def call(method, path, body=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()} | {"Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{base}{path}", data, headers, method=method)) as answer:
        return json.load(answer)


tenant = call("POST", "/admin/tenants", {"name": "browser"}, X_Admin_Key=admin_key)["tenant_id"]
key = call("POST", f"/admin/tenants/{tenant}/keys", {"name": "browser"}, X_Admin_Key=admin_key)["api_key"]


def fetch(url, form):
    job = call("POST", "/v1/jobs?wait=30", {"tool": "web.fetch", "input": {"url": url, "format": form}}, X_API_Key=key)
    job = job.get("job", job)
    for _ in range(100):
        if job["status"] in ("succeeded", "failed", "dead", "cancelled"):
            break
        time.sleep(0.2)
        job = call("GET", f"/v1/jobs/{job['job_id']}", X_API_Key=key)
    assert job["status"] == "succeeded", job
    return job["result"]


# What is no part of the page's words is taken away, and what is one by its
# attributes is written out.
SHOWN = """() => {
    for (const element of document.querySelectorAll('nav, button, select, textarea, .headerlink')) element.remove();
    for (const image of document.querySelectorAll('img')) image.replaceWith(image.alt);
    for (const details of document.querySelectorAll('details')) details.open = true;
    for (const bracket of document.querySelectorAll('rp')) bracket.remove();
    const links = [...document.querySelectorAll('a[href]')].filter(link => link.innerText.trim());
    return [document.body.innerText, links.map(link => link.href), document.title];
}"""


def characters(text):
    """Letters and digits in their order: what stands between them is a matter of form.

    Browsers set the letters of formulas in italics by other characters.
    """
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", text))


def without_marks(text):
    """Text without the marks of lists, which browsers do not give as text."""
    return re.sub(r"(?m)^\s*(?:(?:- )|(?:\d+\. ))+", "", text)


def targets(markdown):
    # An escaped bracket is text.
    found = re.findall(r"(?<!\\)\]\((?:<([^>]*)>|((?:[^()\s]|\([^()\s]*\))*))\)", re.sub(r"```.*?```|`[^`]*`", "", markdown, flags=re.S))
    return sorted(re.sub(r"\\(.)", r"\1", angle or bare) for angle, bare in found)


with sync_playwright() as playwright:
    # Root in a container has no user namespaces for the browser's sandbox.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=arguments)
    try:
        page = browser.new_page()
        for path in sorted(folder.iterdir()):
            url = f"{site}/{path.name}"
            page.goto(url)
            text, links, title = page.evaluate(SHOWN)
            ours, written = fetch(url, "text"), fetch(url, "markdown")
            if os.environ.get("SHOW"):
                print(written["content"])
            assert ours["title"] == title, (ours["title"], title)
            # A page's own words may begin like the mark of a list.
            theirs, mine = characters(without_marks(text)), characters(without_marks(ours["content"]))
            at = next((at for at, (one, other) in enumerate(zip(theirs, mine)) if one != other), None)
            assert theirs == mine, f"{path.name}: the browser shows …{theirs[(at or 0) - 20:][:60]}… and web.fetch gives …{mine[(at or 0) - 20:][:60]}…"
            followed = sorted({link for link in links if re.match(r"(https?|mailto|tel):", link)})
            assert sorted(set(targets(written["content"]))) == followed, (targets(written["content"]), followed)
            print(f"{path.name}: {len(theirs)} characters and {len(followed)} links as in a browser")
    finally:
        browser.close()
