"""The scheduler's web page: its JSON, what is not there, and the page as headless Chromium renders it.

The browser's part is skipped where no Chromium is installed (300 MB: not among the tests' packages).
"""

import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request

import pytest
from cluster import start_training, wait_for

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCREENSHOT = os.environ.get("TIDEGATE_SCREENSHOT")  # a file to keep one in


@pytest.fixture
def page(local, tmp_path):
    job = start_training(local, tmp_path / "job.textproto", "--staleness=4", rows=6000000, seconds=8, samples=200000)
    job.url = wait_for(lambda: re.findall(r"status page at (http://127\.0\.0\.1:\d+)/", job.log()), "the page's address")[0]
    return job


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def test_the_page_and_its_json_are_served_and_nothing_else(page):
    kind, html = get(page.url + "/")
    assert kind.startswith("text/html") and html.startswith("<!doctype html>")
    # Works offline: nothing is fetched from elsewhere.
    assert not [u for u in re.findall(r"https?://[^\"'\s`)]+", html) if not u.startswith("http://www.w3.org/")]
    kind, text = get(page.url + "/api/status")
    assert kind == "application/json"
    status = json.loads(text)
    assert status["phase"] == "training" and status["samples_total"] > 0 and len(status["members"]) == 4
    assert {m["role"] for m in status["members"]} == {"server", "worker"}
    assert sum(m.get("shards", 0) for m in status["members"]) == status["shards"]
    wait_for(lambda: sum(json.loads(get(page.url + "/api/status")[1])["staleness_histogram"]) > 0, "staleness of pulls")
    history = wait_for(lambda: json.loads(get(page.url + "/api/status")[1])["history"], "the curves' first points")
    assert history[0]["samples_per_second"] >= 0 and 0 < history[-1]["loss"] < 2
    for path in ("/nothing", "/api", "/api/status/1", "/%2e%2e/etc/passwd"):
        with pytest.raises(urllib.error.HTTPError) as error:
            get(page.url + path)
        assert error.value.code == 404 and "there is no such page" in error.value.read().decode()


def chromium(*flags):
    return subprocess.run([CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                           "--window-size=1180,1120", *flags], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed")
def test_a_browser_shows_members_curves_and_no_error(page, tmp_path):
    wait_for(lambda: len(json.loads(get(page.url + "/api/status")[1])["history"]) >= 2, "two points of the curves")
    done = chromium("--user-data-dir=%s/profile" % tmp_path, "--virtual-time-budget=4000", "--enable-logging=stderr", "--dump-dom",
                    page.url + "/")
    html = done.stdout
    assert "Uncaught" not in done.stderr and "SyntaxError" not in done.stderr, done.stderr
    assert '<h1 id="job">integration</h1>' in html and '<span class="phase training" id="phase">training</span>' in html
    tables = {name: re.search(r'<table id="%s">(.*?)</table>' % name, html, re.S).group(1) for name in ("servers", "workers")}
    assert tables["servers"].count("<tr>") == 3 and "server/0" in tables["servers"] and "server/1" in tables["servers"]
    assert tables["workers"].count("<tr>") == 3 and "worker/0" in tables["workers"] and "worker/1" in tables["workers"]
    for chart in ("speed", "loss"):
        assert "<polyline" in re.search(r'<svg id="%s".*?</svg>' % chart, html, re.S).group(0), chart
    assert "<rect" in re.search(r'<svg id="staleness".*?</svg>', html, re.S).group(0)
    assert "job integration" not in html and "shards placed on 2 servers" in html  # the events
    if SCREENSHOT:
        chromium("--user-data-dir=%s/profile" % tmp_path, "--virtual-time-budget=4000", "--screenshot=" + SCREENSHOT, page.url + "/")
