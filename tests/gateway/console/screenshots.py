"""Takes the pictures of the console that the documentation shows, from a server that runs with `--demo`, after some minutes of traffic.

    cargo run --release --features gateway,sql --example kinesis_server -- --dir /tmp/demo --demo --key-file /tmp/demo-keys --credentials KEYS
    python screenshots.py http://127.0.0.1:4567 docs/images 12

KEYS is a file with the key AKADMIN, whose secret is `secret`, and which may do everything.
"""

import json
import os
import sys
import time

from PIL import Image
from playwright.sync_api import expect

from browser import Page, browser, client

URL, TARGET, MINUTES = sys.argv[1], sys.argv[2], float(sys.argv[3])
kinesis = client(URL)
for name, count in {"orders": 2, "telemetry": 16}.items():
    if name not in kinesis.list_streams()["StreamNames"]:
        kinesis.create_stream(StreamName=name, ShardCount=count)
if "payments" not in kinesis.list_streams()["StreamNames"]:
    kinesis.create_stream(StreamName="payments", StreamModeDetails={"StreamMode": "ON_DEMAND"})
time.sleep(2)
quarter = 2**128 // 4
demo = {"StreamName": "demo-clicks"}
RESHARDS = [
    lambda: kinesis.split_shard(**demo, ShardToSplit="shardId-000000000001", NewStartingHashKey=str(quarter + quarter // 3)),
    lambda: kinesis.merge_shards(**demo, ShardToMerge="shardId-000000000002", AdjacentShardToMerge="shardId-000000000003"),
    lambda: kinesis.split_shard(**demo, ShardToSplit="shardId-000000000005", NewStartingHashKey=str(quarter + quarter * 2 // 3)),
]


def put(seconds):
    """Puts into the other streams, in waves."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        wave = int(time.monotonic() * 2) % 9
        for name, count in {"orders": 4 + wave, "telemetry": 30 + 5 * wave, "payments": 3}.items():
            records = [{"PartitionKey": f"k{n * 7919 % 101}", "Data": json.dumps({"n": n}) * 6} for n in range(count)]
            kinesis.put_records(StreamName=name, Records=records)
        time.sleep(0.25)


def pass_time():
    """Lets the time pass that the pictures show, with splits and a merge in it."""
    arn = kinesis.describe_stream_summary(**demo)["StreamDescriptionSummary"]["StreamARN"]
    kinesis.add_tags_to_stream(StreamName="demo-clicks", Tags={"team": "shop", "stage": "demo"})
    reader = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:user/reports"}, "Resource": arn}
    reader["Action"] = ["kinesis:GetRecords", "kinesis:GetShardIterator", "kinesis:ListShards"]
    kinesis.put_resource_policy(ResourceARN=arn, Policy=json.dumps({"Version": "2012-10-17", "Statement": [reader]}))
    if len(kinesis.list_shards(**demo)["Shards"]) > 4:
        return
    for reshard in RESHARDS:
        put(MINUTES * 60 / (len(RESHARDS) + 1))
        reshard()
    put(MINUTES * 60 / (len(RESHARDS) + 1))


def save(console, name, **options):
    path = os.path.join(TARGET, f"console-{name}.png")
    console.page.screenshot(path=path, **options)
    Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE, colors=256).save(path, optimize=True)
    print(f"  {path}: {os.path.getsize(path) // 1024} KiB")


def choose(page, span):
    page.get_by_label("Time that the charts show").select_option(span)
    page.wait_for_timeout(2_500)


def wide(started, theme):
    console = Page(started, URL, color_scheme=theme, viewport={"width": 1180, "height": 760}, timezone_id="UTC")
    page = console.page
    console.sign_in()
    expect(page.locator("tr[data-stream=orders]")).to_be_visible()
    put(5)
    save(console, f"streams-{theme}", clip={"x": 0, "y": 0, "width": 1180, "height": 520})
    console.go("demo-clicks")
    expect(page.locator("svg.keyspace rect.heat")).to_have_count(5)
    choose(page, "900000")
    page.get_by_label("Choose a shard, in the order of hash keys").focus()
    page.keyboard.press("ArrowRight")
    page.locator("main").click(position={"x": 2, "y": 2})
    page.wait_for_timeout(2_000)
    save(console, f"stream-{theme}", full_page=True)
    console.button("Split").first.click()
    time.sleep(0.5)
    save(console, f"split-{theme}")
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 1180, "height": 1000})
    console.go("demo-clicks", "data")
    console.button("Read").click()
    page.locator("tr.record").nth(1).get_by_role("button").click()
    time.sleep(0.5)
    save(console, f"data-{theme}")
    page.set_viewport_size({"width": 1180, "height": 700})
    console.go("demo-clicks", "readers")
    choose(page, "900000")
    save(console, f"readers-{theme}", full_page=True)
    console.go("demo-clicks", "settings")
    expect(page.get_by_text("user/reports may do")).to_be_visible()
    save(console, f"settings-{theme}")
    console.close()


def phone(started, theme):
    console = Page(started, URL, color_scheme=theme, viewport={"width": 390, "height": 780}, timezone_id="UTC", device_scale_factor=1.5)
    console.sign_in()
    expect(console.page.locator("tr[data-stream=orders]")).to_be_visible()
    console.go("demo-clicks")
    choose(console.page, "900000")
    save(console, f"phone-{theme}")
    console.close()


def query(started, theme):
    """A live query, after a minute. The server has to be built with `sql`, too."""
    console = Page(started, URL, color_scheme=theme, viewport={"width": 1180, "height": 900}, timezone_id="UTC")
    page = console.page
    console.sign_in()
    assert console.has_sql()
    console.go()
    page.locator("#places").get_by_role("link", name="Query").click()
    console.button("Columns of demo-clicks").click()
    page.get_by_label("Live", exact=True).check()
    console.query(
        "SELECT page, window_end, count(*) AS clicks, avg(millis) AS millis\n"
        "FROM TABLE(TUMBLE(TABLE \"demo-clicks\", DESCRIPTOR(_arrival), INTERVAL '2' SECOND))\n"
        "GROUP BY page, window_start, window_end"
    )
    expect(page.locator(".result tbody tr").first).to_be_visible()
    page.get_by_label("One line for each value of").select_option(label="By page")
    page.wait_for_timeout(62_000)
    save(console, f"query-{theme}", clip={"x": 0, "y": 0, "width": 1180, "height": 1000}, full_page=True)
    console.close()


pass_time()
with browser() as started:
    for theme in ("light", "dark"):
        wide(started, theme)
        phone(started, theme)
        query(started, theme)
