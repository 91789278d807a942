"""A browser for the tests of the console, and a client that asks the server afterwards whether it is so."""

import contextlib
import os
import time

import boto3
from playwright.sync_api import Error, expect, sync_playwright

SECRET = "secret"
expect.set_options(timeout=15_000)


def client(url, key="AKADMIN"):
    return boto3.client(
        "kinesis", endpoint_url=url, region_name="us-east-1", aws_access_key_id=key, aws_secret_access_key=SECRET
    )


def eventually(what, seconds=15):
    """Waits until something is so, and returns it."""
    end = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(0.1)


def launch(playwright, arguments):
    """Starts a browser. On a busy machine, Chromium sometimes crashes while it starts, which says nothing about the console."""
    attempts = 3
    for attempt in range(1, attempts + 1):
        try:
            # Without a sandbox, because tests may run as root.
            return playwright.chromium.launch(
                executable_path=os.environ["STREAMLOG_CHROMIUM"], args=["--no-sandbox", *arguments]
            )
        except Error as error:
            if attempt == attempts:
                raise
            print(f"Chromium did not start, attempt {attempt}: {error.message.splitlines()[0]}")


@contextlib.contextmanager
def browser(*arguments):
    with sync_playwright() as playwright:
        started = launch(playwright, arguments)
        yield started
        started.close()


class Page:
    """A page of the console that fails the test if the browser reports an error or refuses something."""

    def __init__(self, browser, url, **context):
        context = {"viewport": {"width": 1280, "height": 900}, "timezone_id": "Asia/Kathmandu", **context}
        self.context = browser.new_context(**context)
        self.url = url
        self.wrong = []
        self.requests = []
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("console", self._message)
        self.page.on("dialog", lambda dialog: self.wrong.append(f"dialog: {dialog.message}"))
        self.page.on("request", self._request)
        self.page.goto(f"{url}/console")

    def _message(self, message):
        # The browser itself logs error responses, which tests provoke.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.wrong.append(f"{message.type}: {message.text}")

    def _request(self, request):
        self.requests.append(request)
        if not request.url.startswith((self.url, "blob:", "data:")):
            self.wrong.append(f"a request to {request.url}")

    def sign_in(self, key="AKADMIN", secret=SECRET):
        self.page.get_by_label("Access key").fill(key)
        self.page.get_by_label("Secret key").fill(secret)
        self.page.get_by_role("button", name="Sign in").click()

    def has_sql(self):
        """Returns whether the server was built with SQL. Without it, nothing in the page says that there is any."""
        answer = self.page.evaluate("() => fetch('/console/server.json').then((answer) => answer.json())")
        self.page.wait_for_function("has => document.querySelectorAll('#places a[href$=query]').length === (has ? 1 : 0)", arg=answer["hasSql"])
        return answer["hasSql"]

    def query(self, statement):
        """Runs a statement by the keyboard."""
        if "#/query" not in self.page.url:
            self.page.evaluate("() => { location.hash = '#/query'; }")
        box = self.page.get_by_label("Statement", exact=True)
        # The list of tables is there. After that, the page writes nothing by itself.
        expect(self.page.locator(".examples li").first).to_be_visible()
        box.fill(statement)
        box.press("Control+Enter")

    def go(self, stream=None, tab=None):
        place = "#/" if stream is None else f"#/streams/{stream}" + (f"/{tab}" if tab else "")
        self.page.evaluate("place => { location.hash = place; }", place)

    def dialog(self):
        return self.page.get_by_role("dialog")

    def button(self, name, within=None):
        return (within or self.page).get_by_role("button", name=name, exact=True)

    def toast(self, text):
        expect(self.page.locator(".toast", has_text=text).first).to_be_visible()

    def close(self):
        assert self.wrong == [], self.wrong
        self.context.close()
