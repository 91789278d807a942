"""Has axe look at every view of the console, in both themes, on a wide and on a narrow screen.

    python accessible.py URL
"""

import json
import os
import sys
import time

from playwright.sync_api import expect

from browser import Page, browser, client, eventually

URL = sys.argv[1]
AXE = open(os.environ["STREAMLOG_AXE"], encoding="utf-8").read()
kinesis = client(URL)

kinesis.create_stream(StreamName="seen", ShardCount=4)
eventually(lambda: kinesis.describe_stream_summary(StreamName="seen")["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE")
kinesis.put_records(
    StreamName="seen",
    Records=[{"PartitionKey": f"k{n}", "Data": json.dumps({"n": n, "list": [1, {"deep": None}]})} for n in range(50)],
)
arn = kinesis.describe_stream_summary(StreamName="seen")["StreamDescriptionSummary"]["StreamARN"]
kinesis.register_stream_consumer(StreamARN=arn, ConsumerName="board")
kinesis.add_tags_to_stream(StreamName="seen", Tags={"team": "shop floor"})
statement = {"Effect": "Allow", "Principal": "*", "Action": "kinesis:Get*", "Resource": arn}
kinesis.put_resource_policy(ResourceARN=arn, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
kinesis.start_stream_encryption(StreamName="seen", EncryptionType="KMS", KeyId="alias/shop")
found = []
views = 0


def look(page, name):
    global views
    views += 1
    page.evaluate(AXE)
    result = page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
    for violation in result["violations"]:
        where = [node["target"] for node in violation["nodes"]][:3]
        found.append(f"{name}: {violation['id']}: {violation['help']} at {where}")
    wide = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if wide > 0:
        found.append(f"{name}: {wide} px wider than the screen")


def look_at_queries(console, name):
    page = console.page
    console.query("SELECT n, list, _key, _data FROM seen CROSS JOIN (VALUES (1), (2)) AS t (x)")
    page.get_by_role("button", name="Columns of seen").click()
    expect(page.locator(".columns:visible")).to_contain_text("n BIGINT")
    expect(page.get_by_text("100 rows in")).to_be_visible()
    look(page, f"{name}, a result")
    console.query(f"SELECT {', '.join(['n'] * 40)}, m FROM seen")
    expect(page.locator(".problem")).to_be_visible()
    look(page, f"{name}, an error")
    page.get_by_label("Live", exact=True).check()
    page.get_by_label("Where it begins").select_option("TRIM_HORIZON")
    console.query("SELECT n, _key FROM seen")
    expect(page.locator(".query-chart path.line")).to_have_count(1)
    look(page, f"{name}, a live query")


def look_at_all(console, name):
    page = console.page
    expect(page.get_by_label("Access key")).to_be_visible()
    look(page, f"{name}, sign in")
    console.sign_in()
    expect(page.locator("tr[data-stream=seen]")).to_be_visible()
    look(page, f"{name}, streams")
    console.button("Create stream").click()
    look(page, f"{name}, create")
    page.keyboard.press("Escape")
    console.go("seen")
    expect(page.locator("svg.keyspace rect.heat")).to_have_count(4)
    time.sleep(3)
    page.locator(".as-table summary").first.click()
    page.get_by_text("Splits and merges in this time").click()
    look(page, f"{name}, overview")
    for dialog in ("Scale", "Split", "Merge", "Retention", "Mode", "Delete"):
        console.button(dialog).first.click()
        expect(console.dialog()).to_be_visible()
        look(page, f"{name}, {dialog}")
        page.keyboard.press("Escape")
        expect(console.dialog()).to_have_count(0)
    console.go("seen", "data")
    console.button("Read").click()
    page.locator("tr.record").nth(2).get_by_role("button").click()
    for kind in ("JSON", "Text", "Hex"):
        console.button(kind).click()
        look(page, f"{name}, data as {kind}")
    console.go("seen", "put")
    for kind in ("One record", "Many lines", "Made at a rate"):
        page.get_by_label(kind).check()
        look(page, f"{name}, put {kind}")
    for tab in ("shards", "readers", "settings"):
        console.go("seen", tab)
        time.sleep(2.5)
        look(page, f"{name}, {tab}")
    if console.has_sql():
        look_at_queries(console, name)
        console.go("seen", "settings")
    for button in ("Stop encryption", "Change tags", "Change policy"):
        console.button(button).click()
        expect(console.dialog()).to_be_visible()
        look(page, f"{name}, {button}")
        page.keyboard.press("Escape")
        expect(console.dialog()).to_have_count(0)


with browser() as started:
    for theme in ("light", "dark"):
        for width in (1280, 390):
            console = Page(started, URL, color_scheme=theme, viewport={"width": width, "height": 900}, reduced_motion="reduce")
            look_at_all(console, f"{theme} {width}")
            console.close()
    # The button changes the theme, whatever the system setting is.
    console = Page(started, URL, color_scheme="light")
    paper = lambda: console.page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    light = paper()
    console.page.get_by_role("button", name="Colours: as the system").click()
    assert paper() == light
    console.page.get_by_role("button", name="Colours: light").click()
    assert paper() != light
    console.close()
assert not found, "\n".join(found)
print(f"  axe has seen {views} views")
