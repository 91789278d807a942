"""Takes the pictures of the console that the documentation shows, from a server that runs with `--demo`.

    cargo run --release --features gateway --example kinesis_server -- --dir /tmp/demo --port 4567 --demo
    python screenshots.py http://127.0.0.1:4567 docs/images
"""

import json
import os
import sys
import time

from PIL import Image
from playwright.sync_api import expect

from browser import Page, browser, client

URL, TARGET = sys.argv[1:]
kinesis = client(URL)
for name, count in {"orders": 2, "telemetry": 16}.items():
    if name not in kinesis.list_streams()["StreamNames"]:
        kinesis.create_stream(StreamName=name, ShardCount=count)
if "payments" not in kinesis.list_streams()["StreamNames"]:
    kinesis.create_stream(StreamName="payments", StreamModeDetails={"StreamMode": "ON_DEMAND"})
time.sleep(2)
if len(kinesis.list_shards(StreamName="demo-clicks")["Shards"]) == 4:
    quarter = 2**128 // 4
    kinesis.split_shard(StreamName="demo-clicks", ShardToSplit="shardId-000000000001", NewStartingHashKey=str(quarter + quarter // 3))
    time.sleep(1)
    kinesis.merge_shards(StreamName="demo-clicks", ShardToMerge="shardId-000000000002", AdjacentShardToMerge="shardId-000000000003")
    time.sleep(1)
    kinesis.split_shard(StreamName="demo-clicks", ShardToSplit="shardId-000000000005", NewStartingHashKey=str(quarter + quarter * 2 // 3))


def put(seconds):
    """Puts into the other streams, in waves."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        wave = int(time.monotonic() * 2) % 9
        for name, count in {"orders": 4 + wave, "telemetry": 30 + 5 * wave, "payments": 3}.items():
            records = [{"PartitionKey": f"k{n * 7919 % 101}", "Data": json.dumps({"n": n}) * 6} for n in range(count)]
            kinesis.put_records(StreamName=name, Records=records)
        time.sleep(0.25)


def save(console, name, **options):
    path = os.path.join(TARGET, f"console-{name}.png")
    console.page.screenshot(path=path, **options)
    Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE, colors=256).save(path, optimize=True)
    print(f"  {path}: {os.path.getsize(path) // 1024} KiB")


def wide(started, theme):
    console = Page(started, URL, color_scheme=theme, viewport={"width": 1180, "height": 760}, timezone_id="UTC")
    page = console.page
    expect(page.locator("tr[data-stream=orders]")).to_be_visible()
    put(45)
    save(console, f"streams-{theme}", clip={"x": 0, "y": 0, "width": 1180, "height": 520})
    console.go("demo-clicks")
    time.sleep(55)
    page.get_by_label("Choose a shard, in the order of hash keys").focus()
    page.keyboard.press("ArrowRight")
    page.locator("main").click(position={"x": 2, "y": 2})
    save(console, f"stream-{theme}", clip={"x": 0, "y": 0, "width": 1180, "height": 1090}, full_page=True)
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
    console.close()


def phone(started, theme):
    console = Page(started, URL, color_scheme=theme, viewport={"width": 390, "height": 780}, timezone_id="UTC", device_scale_factor=1.5)
    console.go("demo-clicks")
    time.sleep(30)
    save(console, f"phone-{theme}")
    console.close()


with browser() as started:
    for theme in ("light", "dark"):
        wide(started, theme)
        phone(started, theme)
