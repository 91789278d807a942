"""Does in a browser, with clicks and keys, each thing that the console can do, and asks the API afterwards whether it is so.

    python journeys.py URL
"""

import datetime
import json
import re
import sys
import tempfile
import time
import urllib.request

import aws_kinesis_agg.aggregator
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from playwright.sync_api import expect

from browser import SECRET, Page, browser, client, eventually

URL = sys.argv[1]
kinesis = client(URL)


def shards(stream, only_open=True):
    listed = kinesis.list_shards(StreamName=stream)["Shards"]
    return [s for s in listed if not only_open or "EndingSequenceNumber" not in s["SequenceNumberRange"]]


def summary(stream):
    return kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]


def active(stream):
    return eventually(lambda: summary(stream)["StreamStatus"] == "ACTIVE")


def read_all(stream):
    found = []
    for shard in shards(stream, only_open=False):
        iterator = kinesis.get_shard_iterator(
            StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while iterator:
            answer = kinesis.get_records(ShardIterator=iterator)
            found += answer["Records"]
            iterator = answer.get("NextShardIterator") if answer["MillisBehindLatest"] else None
    return found


def sign_in(console):
    page = console.page
    console.sign_in("AKNOBODY")
    expect(page.get_by_role("alert")).to_contain_text("The server does not know this access key.")
    console.sign_in("AKADMIN", "wrong")
    expect(page.get_by_role("alert")).to_contain_text("The signature is wrong.")
    console.sign_in()
    expect(page.get_by_role("heading", name="Streams", exact=True)).to_be_visible()
    stored = page.evaluate("() => JSON.stringify({...localStorage}) + JSON.stringify({...sessionStorage}) + document.cookie")
    assert "secret" not in stored and "AKADMIN" not in stored, stored


def create_by_keys(console):
    page = console.page
    expect(page.locator("tr[data-stream=grouped]")).to_be_visible()
    page.get_by_label("Find a stream").focus()
    page.keyboard.press("Tab")
    expect(console.button("Create stream")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.type("clicks")
    shard_count = page.get_by_label("Shards", exact=True)
    shard_count.focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("4")
    preview = console.dialog().locator(".preview")
    expect(preview).to_contain_text("4 shards, each with 25 % of the hash keys.")
    page.keyboard.press("Enter")
    expect(console.dialog()).to_have_count(0)
    active("clicks")
    assert len(shards("clicks")) == 4
    expect(page.get_by_role("link", name="clicks")).to_be_visible()
    row = page.locator("tr[data-stream=clicks]")
    expect(row).to_contain_text("Active")


def create_on_demand(console):
    page = console.page
    console.button("Create stream").click()
    dialog = console.dialog()
    dialog.get_by_label("Name", exact=True).fill("clicks")
    dialog.get_by_role("button", name="Create stream").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Stream clicks under account 000000000000 already exists.")
    dialog.get_by_label("Name", exact=True).fill("orders")
    dialog.get_by_label("On demand: the load chooses it").check()
    expect(dialog.locator(".preview")).to_contain_text("It begins with 4 shards.")
    dialog.get_by_role("button", name="Create stream").click()
    expect(page.locator("tr[data-stream=orders]")).to_contain_text("on demand")
    assert summary("orders")["StreamModeDetails"]["StreamMode"] == "ON_DEMAND"
    page.get_by_label("Find a stream").fill("ord")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_label("Find a stream").fill("nothing")
    expect(page.get_by_text("No stream has this name")).to_be_visible()
    page.get_by_label("Find a stream").fill("")
    expect(page.locator("tbody tr")).to_have_count(3)


def see_live_rates(console):
    page = console.page
    row = page.locator("tr[data-stream=clicks]")
    end = time.monotonic() + 20
    while not re.search(r"[1-9]", row.locator(".rate").first.inner_text()):
        kinesis.put_records(
            StreamName="clicks", Records=[{"PartitionKey": f"k{n}", "Data": b"x" * 100} for n in range(100)]
        )
        assert time.monotonic() < end, row.inner_text()
        page.wait_for_timeout(200)
    # The page asks once in two seconds. (While Python sleeps, it does not see requests; so the page waits.)
    before = len(console.requests)
    page.wait_for_timeout(6_000)
    assert 2 <= len(console.requests) - before <= 4, [request.url for request in console.requests[before:]]
    page.evaluate("() => { Object.defineProperty(document, 'hidden', { value: true, configurable: true }); }")
    page.wait_for_timeout(2_500)
    before = len(console.requests)
    page.wait_for_timeout(5_000)
    assert len(console.requests) == before, "a hidden page asks"
    page.evaluate("() => { delete document.hidden; document.dispatchEvent(new Event('visibilitychange')); }")


def reshard(console):
    page = console.page
    page.get_by_role("link", name="clicks").click()
    picture = page.locator("svg.keyspace")
    expect(picture.locator("rect.heat")).to_have_count(4)
    expect(page.get_by_role("link", name="Overview")).to_have_attribute("aria-current", "page")

    console.button("Split").click()
    dialog = console.dialog()
    dialog.get_by_label("Shard").select_option("shardId-000000000001")
    slider = dialog.get_by_label("Split at")
    slider.focus()
    for _ in range(25):
        page.keyboard.press("ArrowLeft")
    expect(dialog.locator(".preview")).to_contain_text("two new shards with 25 % and 75 % of its keys")
    expect(dialog.locator(".preview svg rect")).to_have_count(4 + 5)
    console.button("Split", dialog).click()
    console.toast("Shard 1 was split.")
    active("clicks")
    children = [s for s in shards("clicks") if s.get("ParentShardId") == "shardId-000000000001"]
    starts = sorted(int(s["HashKeyRange"]["StartingHashKey"]) for s in children)
    quarter = 2**128 // 4
    assert starts == [quarter, quarter + quarter // 4], starts
    expect(picture.locator("rect.heat")).to_have_count(5)
    expect(picture.locator("rect.closed")).to_have_count(1)

    # The keyboard moves the cursor through the shards, and its text names the current shard.
    cursor = page.get_by_label("Choose a shard, in the order of hash keys")
    cursor.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".shard-detail h3")).to_have_text("shardId-000000000004")
    expect(cursor).to_have_attribute("aria-valuetext", re.compile("Shard 4, 6.3 % of the keys"))
    console.button("Merge with the next").click()
    expect(dialog.locator(".preview")).to_contain_text("one new shard with 25 % of all keys")
    console.button("Merge", dialog).click()
    console.toast("Shard 4 and shard 5 were merged.")
    active("clicks")
    assert len(shards("clicks")) == 4
    expect(picture.locator("rect.heat")).to_have_count(4)

    expect(console.button("Scale")).to_be_enabled()
    console.button("Scale").click()
    dialog.get_by_label("Shards", exact=True).fill("9")
    expect(dialog.locator(".preview")).to_contain_text("One step goes from 2 to 8 shards.")
    expect(console.button("Scale", dialog)).to_be_disabled()
    dialog.get_by_label("Shards", exact=True).fill("6")
    expect(dialog.locator(".preview")).to_contain_text("The stream gets 6 shards of equal size")
    console.button("Scale", dialog).click()
    console.toast("Stream clicks has 6 shards now.")
    active("clicks")
    assert len(shards("clicks")) == 6
    expect(picture.locator("rect.heat")).to_have_count(6)
    # Back in time: a closed shard, chosen by a click.
    closed = picture.locator("rect.closed").first
    closed.click()
    expect(page.locator(".shard-detail .badge")).to_have_text("Closed")
    expect(page.locator(".shard-detail div", has=page.locator("dt", has_text="Closed")).last).to_contain_text("UTC)")
    expect(page.locator(".keyspace-summary")).to_contain_text("This server does not limit what a shard takes")


def change_settings(console):
    page = console.page
    dialog = console.dialog()
    expect(console.button("Retention")).to_be_enabled()
    console.button("Retention").click()
    dialog.get_by_label("Hours").fill("72")
    expect(dialog.locator(".preview")).to_contain_text("Records are kept for 3 days")
    console.button("Change retention", dialog).click()
    console.toast("keeps records for 3 days")
    assert summary("clicks")["RetentionPeriodHours"] == 72
    active("clicks")
    expect(console.button("Retention")).to_be_enabled()
    console.button("Retention").click()
    dialog.get_by_label("Hours").fill("48")
    expect(dialog.locator(".preview")).to_contain_text("Records older than 2 days are dropped")
    console.button("Change retention", dialog).click()
    expect(dialog).to_have_count(0)
    assert summary("clicks")["RetentionPeriodHours"] == 48
    active("clicks")
    expect(console.button("Mode")).to_be_enabled()
    console.button("Mode").click()
    expect(dialog.locator(".preview")).to_contain_text("Hot shards are split")
    console.button("Switch to on demand", dialog).click()
    expect(dialog).to_have_count(0)
    assert summary("clicks")["StreamModeDetails"]["StreamMode"] == "ON_DEMAND"
    expect(page.get_by_text("On demand · keeps")).to_be_visible()
    expect(console.button("Split")).to_be_disabled()
    active("clicks")
    expect(console.button("Mode")).to_be_enabled()
    console.button("Mode").click()
    console.button("Switch to provisioned", dialog).click()
    expect(dialog).to_have_count(0)
    assert summary("clicks")["StreamModeDetails"]["StreamMode"] == "PROVISIONED"
    # Leaving a dialog changes nothing.
    expect(console.button("Delete")).to_be_enabled()
    console.button("Delete").click()
    expect(console.button("Delete stream", dialog)).to_be_disabled()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    active("clicks")


def put(console):
    page = console.page
    kinesis.create_stream(StreamName="puts", ShardCount=2)
    active("puts")
    console.go("puts", "put")
    page.get_by_label("Partition key", exact=True).fill("anna")
    page.get_by_label("Data", exact=True).fill('{"name": "Ańna", "n": [1, 2]}')
    console.button("Put record").click()
    expect(page.get_by_text(re.compile("Put: shard [01], sequence number 49[0-9]{54}"))).to_be_visible()
    [record] = read_all("puts")
    assert (record["PartitionKey"], record["Data"].decode()) == ("anna", '{"name": "Ańna", "n": [1, 2]}')
    page.get_by_label("Many lines").check()
    page.get_by_label("What stands before the first tab of a line").check()
    page.get_by_label("Lines", exact=True).fill("bob\tone\n\ncarl\ttwo\twords\n")
    console.button("Put lines").click()
    expect(page.get_by_text("2 records put.")).to_be_visible()
    found = {(record["PartitionKey"], record["Data"]) for record in read_all("puts")}
    assert {("bob", b"one"), ("carl", b"two\twords")} <= found, found
    page.get_by_label("Made at a rate").check()
    page.get_by_label("Records a second").fill("200")
    console.button("Start").click()
    expect(page.get_by_text(re.compile(r"[1-9]\d\d records put in"))).to_be_visible()
    console.button("Stop").click()
    time.sleep(1)
    made = [json.loads(record["Data"]) for record in read_all("puts") if b'"value"' in record["Data"]]
    assert len(made) >= 100 and sorted(each["n"] for each in made) == list(range(1, len(made) + 1))


def view(console):
    page = console.page
    kinesis.create_stream(StreamName="views", ShardCount=2)
    active("views")
    last = None
    for number in range(30):
        last = kinesis.put_record(
            StreamName="views", PartitionKey=f"key-{number}", Data=json.dumps({"n": number, "deep": {"list": [1, {"x": "needle" if number == 7 else "hay"}]}})
        )
    console.go("views", "data")
    console.button("Read").click()
    rows = page.locator("tr.record")
    expect(rows).to_have_count(30)
    page.get_by_label("Find in what is shown").fill("needle")
    expect(rows).to_have_count(1)
    rows.get_by_role("button").click()
    detail = page.locator("tr.detail")
    expect(detail.locator(".json .hit")).to_contain_text("needle")
    expect(detail).to_contain_text("(your time)")
    expect(detail).to_contain_text("UTC")
    # The reader's time zone is 5:45 from UTC.
    local, utc = (detail.locator("dd").nth(n).inner_text() for n in (0, 1))
    assert local[10:19] != utc[10:19] and int(local[14:16]) == (int(utc[14:16]) + 45) % 60, (local, utc)
    console.button("Hex", detail).click()
    expect(detail.locator("pre")).to_contain_text("00000000  7b 22 6e 22 3a 20 37")
    console.button("Text", detail).click()
    expect(detail.locator("pre")).to_have_text('{"n": 7, "deep": {"list": [1, {"x": "needle"}]}}')
    with page.expect_download() as download:
        console.button("Download what is shown").click()
    with tempfile.NamedTemporaryFile() as file:
        download.value.save_as(file.name)
        [line] = [json.loads(line) for line in open(file.name, encoding="utf-8")]
    assert (line["partition_key"], json.loads(line["data"])["n"]) == ("key-7", 7)
    page.get_by_label("Find in what is shown").fill("")
    expect(rows).to_have_count(30)

    # Headers, put by programs that have the stream in process.
    console.go("grouped", "data")
    console.button("Read").click()
    expect(rows).to_have_count(3)
    page.get_by_label("Find in what is shown").fill("17-abc")
    expect(rows).to_have_count(3)
    rows.nth(1).get_by_role("button").click()
    headers = page.locator("tr.detail .headers")
    expect(headers.locator("dt")).to_have_text(["trace-id", "<b>raw"])
    expect(headers.locator("dd")).to_have_text(["17-abc", "ff 01"])
    with page.expect_download() as download:
        console.button("Download what is shown").click()
    with tempfile.NamedTemporaryFile() as file:
        download.value.save_as(file.name)
        lines = [json.loads(line) for line in open(file.name, encoding="utf-8")]
    assert lines[1]["headers"] == [
        {"name": "trace-id", "value_base64": "MTctYWJj"}, {"name": "<b>raw", "value_base64": "/wE="}
    ]
    console.go("views", "data")
    console.button("Read").click()
    expect(rows).to_have_count(30)

    page.get_by_label("From", exact=True).select_option("AT_SEQUENCE_NUMBER")
    page.get_by_label("Sequence number", exact=True).fill(last["SequenceNumber"])
    console.button("Read").click()
    expect(page.get_by_role("alert")).to_contain_text("belongs to one shard")
    page.get_by_label("Read", exact=True).select_option(last["ShardId"])
    console.button("Read").click()
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("key-29")

    page.get_by_label("Read", exact=True).select_option("")
    page.get_by_label("From", exact=True).select_option("AT_TIMESTAMP")
    page.get_by_label("Time", exact=True).fill("2001-01-01T12:00:00")
    expect(page.get_by_text("2001-01-01 06:15:00 UTC")).to_be_visible()
    console.button("Read").click()
    expect(rows).to_have_count(30)

    # Live: new records, also in shards that a split makes.
    page.get_by_label("From", exact=True).select_option("LATEST")
    console.button("Read").click()
    expect(console.button("Following")).to_have_attribute("aria-pressed", "true")
    expect(rows).to_have_count(0)
    kinesis.put_record(StreamName="views", PartitionKey="live-1", Data="now")
    expect(rows).to_have_count(1)
    kinesis.update_shard_count(StreamName="views", TargetShardCount=4, ScalingType="UNIFORM_SCALING")
    for number in range(2, 12):
        kinesis.put_record(StreamName="views", PartitionKey=f"live-{number}", Data="later")
    expect(rows).to_have_count(11, timeout=30_000)
    console.button("Following").click()
    expect(console.button("Follow")).to_have_attribute("aria-pressed", "false")


def take_apart(console):
    page = console.page
    kinesis.create_stream(StreamName="aggregates", ShardCount=1)
    active("aggregates")
    aggregator = aws_kinesis_agg.aggregator.RecordAggregator()
    for number in range(5):
        aggregator.add_user_record(f"user-{number % 2}", f'{{"order": {number}}}'.encode())
    key, _, data = aggregator.clear_and_get().get_contents()
    kinesis.put_record(StreamName="aggregates", PartitionKey=key, Data=data)
    # A record whose MD5 is wrong is a plain record.
    kinesis.put_record(StreamName="aggregates", PartitionKey="wrong", Data=data[:-1] + bytes([data[-1] ^ 1]))
    console.go("aggregates", "data")
    console.button("Read").click()
    rows = page.locator("tr.record")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("5 user records")
    expect(rows.first.locator(".kpl")).to_have_text("KPL")
    expect(rows.nth(1).locator(".kpl")).to_have_count(0)
    rows.first.get_by_role("button").click()
    users = page.locator(".users > li")
    expect(users).to_have_count(5)
    expect(users.nth(3)).to_contain_text("user-1")
    users.nth(3).locator("summary").first.click()
    expect(users.nth(3).locator(".json")).to_contain_text("order: 3")


def past(console):
    """What went on before the page was opened is drawn at once."""
    page = console.page
    kinesis.create_stream(StreamName="busy", ShardCount=1)
    active("busy")
    # The gateway checks every five seconds, and later on a busy machine.
    for look in range(12):
        kinesis.put_records(StreamName="busy", Records=[{"PartitionKey": "key", "Data": b"x" * 500}] * 300)
        page.wait_for_timeout(5_500)
        if look < 2:
            continue
        fresh = Page(page.context.browser, URL)
        fresh.sign_in()
        row = fresh.page.locator("tr[data-stream=busy]")
        expect(row).to_be_visible()
        line = row.locator(".spark .line").first.get_attribute("d")
        fresh.close()
        if line.count("L") >= 2:
            break
    assert line.count("L") >= 2, f"after one answer, there are several points: {line}"
    # Not from the list, which has requested a part of it.
    fresh = Page(page.context.browser, URL)
    fresh.go("busy")
    fresh.sign_in()
    # Nothing was put since, so these figures are older.
    for figures in (r"Records\. In: now [0-9.]+.s, at most [1-9]", r"Bytes\. In: now .*, at most [0-9.]+ KiB"):
        expect(fresh.page.get_by_role("img", name=re.compile(figures))).to_be_visible()
    fresh.page.get_by_label("Time that the charts show").select_option("3600000")
    expect(fresh.page.get_by_role("img", name=re.compile(r"Records\. In: now [0-9.]+.s, at most [1-9]"))).to_be_visible()
    fresh.close()


def readers(console):
    page = console.page
    opened = time.time()
    console.go("grouped", "readers")
    group = page.locator("tr", has_text="billing")
    expect(group).to_contain_text("3")
    expect(page.get_by_role("img", name=re.compile(r"billing: records to go\. Records: now 3, at most 3"))).to_be_visible()
    expect(page.get_by_role("img", name=re.compile(r"billing: behind\. Behind: now [0-9]+ (s|min)"))).to_be_visible()
    page.get_by_label("Time that the charts show").select_option("900000")
    table = page.locator(".chart", has_text="billing: records to go").locator(".as-table")
    table.locator("summary").click()
    eldest = table.locator("tbody tr").last.locator("td")
    expect(eldest.nth(1)).to_have_text("3")
    at = datetime.datetime.fromisoformat(eldest.first.get_attribute("title").replace(" UTC", "+00:00")).timestamp()
    assert at < opened, "the lag from before the tab was opened"
    table.locator("summary").click()
    console.button("Register a consumer").click()
    console.dialog().get_by_label("Name").fill("board")
    console.button("Register", console.dialog()).click()
    console.toast("Consumer board is registered.")
    [consumer] = kinesis.list_stream_consumers(StreamARN=summary("grouped")["StreamARN"])["Consumers"]
    assert consumer["ConsumerName"] == "board"
    row = page.locator("tr", has_text="board")
    expect(row).to_contain_text("Active")
    stream = kinesis.subscribe_to_shard(
        ConsumerARN=consumer["ConsumerARN"], ShardId="shardId-000000000000", StartingPosition={"Type": "LATEST"}
    )["EventStream"]
    expect(row).to_contain_text("1 shard")
    expect(row).to_contain_text("at the end")
    expect(page.get_by_role("img", name=re.compile("board: behind. Behind: now 0 ms"))).to_be_visible()
    stream.close()
    expect(page.get_by_role("img", name=re.compile("board: behind. Behind: now –"))).to_be_visible()
    expect(row).to_contain_text("none")
    row.get_by_role("button", name="Deregister board").click()
    expect(page.get_by_text("No consumer is registered.")).to_be_visible()
    stream = {"StreamARN": summary("grouped")["StreamARN"]}
    assert kinesis.list_stream_consumers(**stream)["Consumers"] == []
    expect(page.get_by_text("The stream has no queues.")).to_be_visible()
    kinesis.update_stream_mode(**stream, StreamModeDetails={"StreamMode": "ON_DEMAND"})
    active("grouped")
    start = {**stream, "StartingPosition": {"Type": "TRIM_HORIZON"}}
    queue = kinesis.create_queue(QueueName="resize", StreamConfigurationList=[start])["QueueDescription"]["QueueARN"]
    eventually(lambda: kinesis.describe_queue(QueueARN=queue)["QueueDescription"]["QueueStatus"] == "ACTIVE")
    assert len(kinesis.receive_queue_records(QueueARN=queue, Limit=1)["QueueRecords"]) == 1
    cells = page.locator("tr", has=page.get_by_role("rowheader", name="resize", exact=True)).locator("td")
    expect(cells).to_have_text(["Active", "2", "1", "0"])
    kinesis.delete_queue(QueueARN=queue)
    expect(page.get_by_text("The stream has no queues.")).to_be_visible()
    eventually(lambda: summary("grouped")["QueueCount"] == 0)
    kinesis.update_stream_mode(**stream, StreamModeDetails={"StreamMode": "PROVISIONED"})
    active("grouped")


def charts(console):
    page = console.page
    console.go("clicks")
    expect(page.locator(".tile", has_text="Open shards")).to_contain_text("6")
    for _ in range(30):
        kinesis.put_records(StreamName="clicks", Records=[{"PartitionKey": f"k{n}", "Data": b"x" * 500} for n in range(50)])
        time.sleep(0.2)
    picture = page.get_by_role("img", name=re.compile(r"Records\. In: now [1-9]"))
    expect(picture).to_be_visible()
    picture.hover()
    expect(page.locator(".reading").nth(1)).to_contain_text("UTC): In")
    table = page.locator(".chart", has_text="Records").locator(".as-table").nth(0)
    table.locator("summary").click()
    expect(table.locator("tbody tr").first).to_be_visible()
    page.get_by_label("Time that the charts show").select_option("900000")
    # The key space over time: the splits and merges of this journey, in colours, and as a list.
    over_time = page.locator("section", has=page.get_by_role("heading", name="Hash keys over time"))
    expect(over_time.get_by_role("img", name=re.compile(r"Hash keys over time\. [1-9]\d* shards came from"))).to_be_visible()
    over_time.locator("summary").click()
    expect(over_time.locator("li").last).to_contain_text("came from shard 1, which was split.")
    expect(over_time.locator("li", has_text="came from shards 4 and 5, which were merged.")).to_have_count(1)
    # The busiest cell has the busiest colour.
    has_busiest = """() => {
        const canvas = document.querySelector('canvas.heatmap');
        const busiest = getComputedStyle(canvas.parentNode.querySelector('.heat-legend .l5')).backgroundColor.match(/\\d+/g).map(Number);
        const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        for (let at = 0; at < pixels.length; at += 4) if (busiest.every((part, of) => pixels[at + of] === part)) return true;
        return false;
    }"""
    eventually(lambda: page.evaluate(has_busiest), 45)
    canvas = over_time.locator("canvas")
    box = canvas.bounding_box()
    canvas.hover(position={"x": box["width"] - 4, "y": box["height"] - 6})
    expect(over_time.locator(".reading")).to_contain_text(re.compile(r"UTC\): Shard \d+, .* in"))
    number = re.search(r"Shard (\d+),", over_time.locator(".reading").inner_text()).group(1)
    canvas.click(position={"x": box["width"] - 4, "y": box["height"] - 6})
    expect(page.locator(".shard-detail h3")).to_have_text(f"shardId-{int(number):012}")
    page.get_by_label("Time that the charts show").select_option("86400000")
    console.go("clicks", "shards")
    expect(page.locator(".shards tbody tr")).to_have_count(6)
    page.get_by_label("With closed shards").check()
    eventually(lambda: page.locator(".shards tbody tr").count() > 6)


def settings(console):
    page = console.page
    dialog = console.dialog()
    arn = summary("puts")["StreamARN"]
    card = lambda title: page.locator(".setting", has=page.get_by_role("heading", name=title))
    console.go("puts", "settings")
    expect(card("Encryption")).to_contain_text("Off. Records are on the disk in plain.")
    console.button("Encrypt").click()
    expect(dialog.locator(".preview")).to_contain_text("What is there already stays as it is")
    dialog.get_by_label("Name of the key").fill("alias/shop")
    console.button("Encrypt", dialog).click()
    console.toast("Stream puts is encrypted now.")
    assert (summary("puts")["EncryptionType"], summary("puts")["KeyId"]) == ("KMS", "alias/shop")
    expect(card("Encryption")).to_contain_text("On, with the key alias/shop.")
    active("puts")
    console.button("Stop encryption").click()
    expect(dialog.locator(".preview")).to_contain_text("Keep the key file until retention has dropped it.")
    console.button("Stop encryption", dialog).click()
    console.toast("is not encrypted any more")
    assert summary("puts")["EncryptionType"] == "NONE"

    # Tags, with the keyboard.
    tags = lambda: {tag["Key"]: tag["Value"] for tag in kinesis.list_tags_for_stream(StreamName="puts")["Tags"]}
    kinesis.add_tags_to_stream(StreamName="puts", Tags={"stage": "test", "old": "yes"})
    console.go("puts")
    console.go("puts", "settings")
    console.button("Change tags").focus()
    page.keyboard.press("Enter")
    expect(dialog.get_by_label("Key of tag 2")).to_have_value("stage")
    dialog.get_by_label("Value of tag 2").fill("live")
    console.button("Remove tag 1", dialog).focus()
    page.keyboard.press("Enter")
    expect(console.button("Add a tag", dialog)).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.type("team")
    page.keyboard.press("Tab")
    page.keyboard.type("shop floor")
    preview = dialog.locator(".preview")
    for line in ("stage changes from “test” to “live”.", "team is added, with “shop floor”.", "old is removed."):
        expect(preview).to_contain_text(line)
    page.keyboard.press("Enter")
    console.toast("has other tags now")
    assert tags() == {"stage": "live", "team": "shop floor"}, tags()
    expect(card("Tags")).to_contain_text("shop floor")
    console.button("Change tags").click()
    console.button("Add a tag", dialog).click()
    dialog.get_by_label("Key of tag 3").fill("team")
    expect(preview).to_contain_text("Two tags have the same key.")
    expect(console.button("Change tags", dialog)).to_be_disabled()
    page.keyboard.press("Escape")

    # A policy grants reads to a key that may do nothing else.
    nobody = client(URL, "AKNOTHING")
    may_describe = lambda: nobody.describe_stream_summary(StreamName="puts")["StreamDescriptionSummary"]["StreamName"]
    try:
        may_describe()
        raise AssertionError("allowed without a policy")
    except nobody.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] == "AccessDeniedException", error
    expect(card("Policy")).to_contain_text("None. The policies of the keys decide.")
    console.button("Put a policy").click()
    text = dialog.get_by_label("Policy", exact=True)
    statement = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:user/nothing"}, "Action": "kinesis:Describe*", "Resource": arn}
    text.fill("{")
    expect(preview).to_contain_text("This is not JSON")
    expect(console.button("Put policy", dialog)).to_be_disabled()
    text.fill(json.dumps({"Version": "2012-10-17", "Statement": [{**statement, "Effect": "Perhaps"}]}))
    console.button("Put policy", dialog).click()
    expect(dialog.get_by_role("alert")).to_contain_text('Effect must be "Allow" or "Deny"')
    text.fill(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    words = f"arn:aws:iam::000000000000:user/nothing may do kinesis:Describe* on {arn}."
    expect(preview).to_contain_text(words)
    console.button("Put policy", dialog).click()
    console.toast("Stream puts has its policy now.")
    assert json.loads(kinesis.get_resource_policy(ResourceARN=arn)["Policy"])["Statement"] == [statement]
    assert may_describe() == "puts"
    expect(card("Policy")).to_contain_text(words)
    console.button("Change policy").click()
    text.fill("")
    expect(preview).to_contain_text("The policy is deleted.")
    console.button("Change policy", dialog).click()
    console.toast("has no policy any more")
    assert kinesis.get_resource_policy(ResourceARN=arn)["Policy"] == "{}"


def groups(stream):
    """Returns the names of a stream's consumer groups."""
    target = {"X-Amz-Target": "Streamlog_20261129.DescribeActivity", "Content-Type": "application/x-amz-json-1.1"}
    body = json.dumps({"StreamName": stream, "IncludeConsumers": True})
    request = AWSRequest("POST", URL, headers=target, data=body)
    SigV4Auth(Credentials("AKADMIN", SECRET), "kinesis", "us-east-1").add_auth(request)
    asked = urllib.request.Request(URL, data=body.encode(), headers=dict(request.headers))
    with urllib.request.urlopen(asked) as answer:
        return [group["GroupName"] for group in json.load(answer)["Groups"]]


def query_once(console):
    page = console.page
    console.go()
    if not console.has_sql():
        return
    kinesis.create_stream(StreamName="sales", ShardCount=2)
    active("sales")
    sale = lambda n: {"PartitionKey": f"k{n}", "Data": json.dumps({"page": f"/p{n % 3}", "ms": n, "id": 2**60 + n})}
    kinesis.put_records(StreamName="sales", Records=[sale(n) for n in range(30)])
    page.locator("#places").get_by_role("link", name="Query").click()
    expect(page.get_by_role("heading", name="Query", exact=True)).to_be_visible()
    statement = page.get_by_label("Statement", exact=True)
    # It begins with a statement that shows something.
    expect(statement).to_have_value(re.compile("ORDER BY _arrival DESC"))
    rows = page.locator(".result tbody tr")
    problem = page.locator(".problem")

    counted = "SELECT page, count(*) AS n, max(id) AS id\nFROM sales GROUP BY page ORDER BY page"
    console.query(counted)
    expect(page.get_by_text(re.compile(r"^3 rows in \d+"))).to_be_visible()
    expect(rows).to_have_count(3)
    # Numbers keep all of their digits.
    assert rows.nth(0).locator("td").all_inner_texts() == ["/p0", "10", str(2**60 + 27)]
    heads = page.locator(".result thead th")
    expect(heads.nth(1)).to_have_text("nBIGINT")

    # Errors are shown under the statement, with a mark.
    console.query("SELECT pge\nFROM sales")
    expect(problem).to_contain_text('There is no column "pge" in sales: did you mean "page"?')
    assert problem.locator("pre").inner_text() == "1 | SELECT pge\n  |        ^^^"
    expect(page.locator(".result")).to_be_hidden()
    assert statement.evaluate("it => it.selectionStart") == len("SELECT ")
    # Earlier statements, by keyboard and from the list.
    page.keyboard.press("Alt+ArrowUp")
    expect(statement).to_have_value("SELECT pge\nFROM sales")
    page.keyboard.press("Alt+ArrowUp")
    expect(statement).to_have_value(counted)
    page.keyboard.press("Control+Enter")
    expect(rows).to_have_count(3)
    expect(problem).to_be_hidden()
    page.get_by_label("Earlier statements").select_option(label="SELECT pge FROM sales")
    expect(statement).to_have_value("SELECT pge\nFROM sales")

    # Tables, and their columns, which can be inserted into the statement.
    console.button("Columns of sales").click()
    columns = page.locator(".columns:visible")
    expect(columns).to_contain_text("_arrival TIMESTAMP")
    expect(columns).to_contain_text("ms BIGINT")
    statement.fill("SELECT ")
    console.button("ms", columns).click()
    page.keyboard.type(" FROM ")
    console.button("sales").click()
    page.keyboard.type(" WHERE ms < 2 ORDER BY ms")
    console.button("Run").click()
    expect(rows).to_have_count(2)
    expect(statement).to_have_value("SELECT ms FROM sales WHERE ms < 2 ORDER BY ms")

    # Long results have pages.
    console.query("SELECT a.ms * 30 + b.ms AS number, NULL AS nothing FROM sales a CROSS JOIN sales b ORDER BY 1")
    expect(page.get_by_text(re.compile(r"^900 rows in "))).to_be_visible()
    expect(rows).to_have_count(50)
    expect(page.get_by_text("Page 1 of 18")).to_be_visible()
    console.button("Next", page.locator(".query .pager")).click()
    assert rows.nth(0).locator("td").all_inner_texts() == ["50", "NULL"]

    # Records that do not fit are reported.
    kinesis.put_record(StreamName="sales", PartitionKey="k", Data="no json")
    console.query("SELECT ms FROM sales WHERE ms = 1")
    expect(page.locator(".notes")).to_contain_text("1 record left out, which does not fit the columns")

    # The text is still there after a visit to another page, and a stream leads to its own records.
    console.go("sales")
    page.locator(".actions").get_by_role("link", name="Query").click()
    expect(statement).to_have_value(re.compile("FROM sales\nORDER BY"))
    console.button("Run").click()
    expect(rows).to_have_count(31)
    stored = page.evaluate("() => JSON.stringify({...localStorage}) + JSON.stringify({...sessionStorage})")
    assert "sales" not in stored, stored


def query_live(console):
    page = console.page
    if not console.has_sql():
        return
    statement = page.get_by_label("Statement", exact=True)
    rows = page.locator(".result tbody tr")
    line = page.locator(".query-chart path.line").first
    put = lambda ms, name="/cart": kinesis.put_record(StreamName="sales", PartitionKey="k", Data=json.dumps({"page": name, "ms": ms}))
    page.get_by_label("Live", exact=True).check()
    console.query("SELECT page, ms FROM sales WHERE ms > 10")
    expect(page.get_by_text("Live. Rows appear here as they are made.")).to_be_visible()
    expect(page.locator(".query-chart")).to_be_hidden()
    put(5)
    put(20)
    expect(rows).to_have_count(1)
    assert rows.nth(0).locator("td").all_inner_texts() == ["/cart", "20"]
    expect(page.locator(".query-chart path.line")).to_have_count(1)
    # The chart gets a new point, and continues while no records arrive.
    before = line.get_attribute("d")
    put(40)
    expect(rows).to_have_count(2)
    assert rows.nth(0).locator("td").all_inner_texts() == ["/cart", "40"]
    eventually(lambda: line.get_attribute("d") != before)
    expect(page.locator(".query-chart .legend")).to_have_text("ms 40")
    before = line.get_attribute("d")
    eventually(lambda: line.get_attribute("d") != before)
    # One line for each page.
    put(30, "/home")
    expect(rows).to_have_count(3)
    page.get_by_label("One line for each value of").select_option(label="By page")
    expect(page.locator(".query-chart .legend")).to_have_text(["/cart 40", "/home 30"])
    expect(page.locator(".query-main > .hint")).to_contain_text("3 rows made")
    # It is a reader of the stream while it runs, and leaves nothing when it is stopped.
    assert len(groups("sales")) == 1
    console.button("Stop").click()
    expect(page.get_by_text("Stopped.")).to_be_visible()
    eventually(lambda: groups("sales") == [])
    put(50)
    page.wait_for_timeout(1_000)
    expect(rows).to_have_count(3)
    # Leaving ends it, too.
    statement.focus()
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("Live. Rows appear here as they are made.")).to_be_visible()
    assert len(groups("sales")) == 1
    console.go("sales")
    eventually(lambda: groups("sales") == [])
    # A window, from the oldest record on.
    page.evaluate("() => { location.hash = '#/query'; }")
    page.get_by_label("Live", exact=True).check()
    page.get_by_label("Where it begins").select_option("TRIM_HORIZON")
    statement.fill(
        "SELECT window_end, count(*) AS n FROM TABLE(TUMBLE(TABLE sales, DESCRIPTOR(_arrival), INTERVAL '1' SECOND)) "
        "GROUP BY window_start, window_end"
    )
    page.keyboard.press("Control+Enter")
    expect(rows.first).to_be_visible()
    # Errors of a live query are shown like those of others.
    statement.fill("SELECT ms\nFROM sale")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".problem")).to_contain_text("There is no")
    assert page.locator(".problem pre").inner_text() == "2 | FROM sale\n  |      ^"


def delete(console):
    page = console.page
    console.go("clicks")
    expect(console.button("Delete")).to_be_enabled()
    console.button("Delete").click()
    dialog = console.dialog()
    dialog.get_by_label("Type clicks to confirm").fill("clicks")
    expect(dialog.locator(".preview")).to_contain_text("on disk are deleted. This cannot be undone.")
    console.button("Delete stream", dialog).click()
    console.toast("Stream clicks is being deleted.")
    eventually(lambda: "clicks" not in kinesis.list_streams()["StreamNames"])
    expect(page.get_by_text("There is no stream of this name any more.")).to_be_visible()
    console.go()
    expect(page.locator("tr[data-stream=clicks]")).to_have_count(0)
    expect(page.locator("tr[data-stream=orders]")).to_have_count(1)


def may_only_read(console):
    page = console.page
    console.button("Sign out").click()
    console.sign_in("AKREADER")
    expect(page.get_by_text("This key may only look")).to_be_visible()
    expect(console.button("Create stream")).to_have_count(0)
    expect(page.get_by_role("button", name="Delete")).to_have_count(0)
    console.go("views")
    expect(page.get_by_text("Read only: this key may not change the stream.")).to_be_visible()
    expect(console.button("Split")).to_have_count(0)
    console.go("views", "data")
    console.button("Read").click()
    expect(page.locator("tr.record").first).to_be_visible()
    console.go("views", "put")
    expect(page.get_by_text("This key may not put records into this stream.")).to_be_visible()
    expect(console.button("Put record")).to_have_count(0)

    console.go("puts", "settings")
    expect(page.get_by_text("(kinesis:StartStreamEncryption)")).to_be_visible()
    for name in ("Encrypt", "Change tags", "Put a policy"):
        expect(console.button(name)).to_be_disabled()

    # A key that may create streams of some names.
    console.button("Sign out").click()
    console.sign_in("AKDEV")
    console.go()
    dialog = console.dialog()
    console.button("Create stream").click()
    dialog.get_by_label("Name", exact=True).fill("prod-1")
    console.button("Create stream", dialog).click()
    expect(dialog.get_by_role("alert")).to_contain_text(re.compile("This key may not do that.*kinesis:CreateStream"))
    dialog.get_by_label("Name", exact=True).fill("dev-1")
    console.button("Create stream", dialog).click()
    console.toast("Stream dev-1 is being created.")
    names = kinesis.list_streams()["StreamNames"]
    assert "dev-1" in names and "prod-1" not in names, names
    if console.has_sql():
        # Only readable streams are tables.
        active("dev-1")
        page.locator("#places").get_by_role("link", name="Query").click()
        expect(page.locator(".tables li")).to_have_text(["dev-1"])
        page.get_by_label("Statement", exact=True).fill("SELECT * FROM sales")
        page.keyboard.press("Control+Enter")
        expect(page.locator(".problem")).to_contain_text('There is no table "sales"')

    # A key made for Kinesis alone: no figures, but everything else.
    console.button("Sign out").click()
    console.sign_in("AKPLAIN")
    console.go()
    expect(page.get_by_text("This key may not do streamlog:DescribeActivity")).to_be_visible()
    expect(page.locator("tr[data-stream=views]")).to_contain_text("Active")
    console.go("views")
    expect(page.locator("svg.keyspace rect.heat")).to_have_count(4)

    if console.has_sql():
        page.locator("#places").get_by_role("link", name="Query").click()
        expect(page.locator(".problem")).to_contain_text(re.compile("This key may not do that.*streamlog:Query"))

    # A key without permissions gets a message.
    console.button("Sign out").click()
    console.sign_in("AKNOTHING")
    console.go()
    expect(page.locator(".notice.bad")).to_contain_text("This key may not do that.")


STEPS = [
    sign_in, create_by_keys, create_on_demand, see_live_rates, reshard, change_settings, put, view, take_apart, past,
    readers, charts, settings, query_once, query_live, delete, may_only_read,
]

# From another machine and without TLS, browsers do not sign. The page says so, and what to do.
with browser("--host-resolver-rules=MAP console.test 127.0.0.1") as started:
    elsewhere = Page(started, URL.replace("127.0.0.1", "console.test"))
    expect(elsewhere.page.get_by_role("heading", name="This page cannot sign requests")).to_be_visible()
    expect(elsewhere.page.get_by_text("SSH tunnel")).to_be_visible()
    expect(elsewhere.page.get_by_label("Secret key")).to_have_count(0)
    elsewhere.close()

with browser() as started:
    console = Page(started, URL, accept_downloads=True)
    for step in STEPS:
        begun = time.monotonic()
        step(console)
        print(f"  {step.__name__}: {time.monotonic() - begun:.1f} s", flush=True)
    console.close()
