"""Measures the console with 500 streams and 1,024 shards under load: until the first picture, requests, memory.

    python many.py URL SECONDS
"""

import sys
import threading
import time

from playwright.sync_api import expect

from browser import Page, browser, client, eventually

URL, SECONDS = sys.argv[1], float(sys.argv[2])
STREAMS = 500
SHARDS = 1_024
kinesis = client(URL)

for number in range(STREAMS - 1):
    kinesis.create_stream(StreamName=f"stream-{number:03}", ShardCount=1)
kinesis.create_stream(StreamName="wide", ShardCount=SHARDS)
is_over = threading.Event()


def load():
    own = client(URL)
    number = 0
    while not is_over.is_set():
        number += 1
        records = [{"PartitionKey": f"{number}-{n}", "Data": b"x" * 100} for n in range(100)]
        own.put_records(StreamName="wide", Records=records)
        own.put_record(StreamName=f"stream-{number % (STREAMS - 1):03}", PartitionKey="k", Data=b"x" * 100)
        time.sleep(0.05)


eventually(lambda: kinesis.describe_stream_summary(StreamName="wide")["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE", 60)
thread = threading.Thread(target=load)
thread.start()
try:
    with browser() as started:
        console = Page(started, URL)
        page = console.page
        cdp = console.context.new_cdp_session(page)

        def heap():
            cdp.send("HeapProfiler.collectGarbage")
            return cdp.send("Runtime.getHeapUsage")["usedSize"] / 2**20

        expect(page.get_by_label("Access key")).to_be_visible()
        begun = time.monotonic()
        console.sign_in()
        expect(page.locator("tbody tr")).to_have_count(50, timeout=60_000)
        list_took = time.monotonic() - begun
        expect(page.locator(".pager")).to_contain_text("500 streams, page 1 of 10")
        begun = time.monotonic()
        console.go("wide")
        expect(page.locator("svg.keyspace rect.heat")).to_have_count(SHARDS, timeout=60_000)
        wide_took = time.monotonic() - begun
        begun = time.monotonic()
        expect(page.locator("svg.keyspace rect.heat.l5").first).to_be_attached(timeout=60_000)
        busy_took = time.monotonic() - begun

        def stay(place):
            """Stays at a place, and returns the requests a second and the heap: at the beginning, and then each minute."""
            console.go(*place)
            page.wait_for_timeout(5_000)
            requests, memory = len(console.requests), [heap()]
            begun = time.monotonic()
            while (left := SECONDS - (time.monotonic() - begun)) > 0:
                # While Python sleeps, it does not see requests; so the page waits.
                page.wait_for_timeout(min(left, 60) * 1_000)
                memory.append(heap())
            return (len(console.requests) - requests) / (time.monotonic() - begun), memory

        shown = {name: stay(place) for name, place in {"list": (), "wide": ("wide",)}.items()}
        console.go("wide", "data")
        page.get_by_label("From", exact=True).select_option("LATEST")
        console.button("Read").click()
        expect(page.locator("tr.record").first).to_be_visible(timeout=30_000)
        # The page stays responsive: the longest time that a task keeps it busy.
        busiest = page.evaluate(
            """() => new Promise((done) => {
                let [last, longest] = [performance.now(), 0];
                const timer = setInterval(() => { const now = performance.now(); longest = Math.max(longest, now - last); last = now; }, 10);
                setTimeout(() => { clearInterval(timer); done(longest); }, 6000);
            })"""
        )
        console.close()
finally:
    is_over.set()
    thread.join()

print(f"  the list of 500 streams after {list_took:.2f} s; 1,024 shards after {wide_took:.2f} s, busy ones after {busy_took:.2f} s more")
for name, (rate, (before, *memory)) in shown.items():
    each = ", ".join(f"{heap:.1f}" for heap in memory)
    print(f"  {name}: {rate:.2f} requests/s; heap {before:.1f} MiB, then in {SECONDS:.0f} s {each} MiB")
    assert 0.1 <= rate <= 1, rate
    # After the first minute, nothing grows.
    assert memory[0] < before + 15 and memory[-1] < memory[0] + 2, (before, memory)
print(f"  following 1,024 shards: the page was busy for {busiest:.0f} ms at most")
assert list_took < 15 and wide_took < 15, (list_took, wide_took)
