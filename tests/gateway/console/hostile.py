"""Shows records and keys in the console that try to be more than text.

    python hostile.py URL
"""

import sys
import time

from playwright.sync_api import expect

from browser import Page, browser, client, eventually

URL = sys.argv[1]
kinesis = client(URL)
ATTACK = "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script><svg onload='window.hacked=1'>"
BIG = 10 << 20

RECORDS = [
    ("html", ATTACK.encode()),
    ("json", ('{"<b>name</b>": "%s", "__proto__": {"x": 1}, "constructor": "y"}' % ATTACK.replace('"', '\\"')).encode()),
    ("control", b"a\x00b\x07\x1b[31mred\x1b]0;title\x07\x7f\r\n\x08\x0c"),
    ("bidi", "user\u202egnp.exe \u2066x\u2069 \u200b \ufeff".encode()),
    ("not-utf-8", b"\xff\xfe\xc0\x80abc\xed\xa0\x80\xf5"),
    ("template", b"{{constructor.constructor('window.hacked=1')()}} ${window.hacked=1} javascript:window.hacked=1"),
    ("deep", b"[" * 20_000 + b"]" * 20_000),
    ("empty-ish", b" "),
    ("magic", b"\xf3\x89\x9a\xc2" + b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f" * 5 + b"0" * 16),
    (ATTACK[:250], b"the key attacks"),
]

kinesis.create_stream(StreamName="hostile", ShardCount=1)
eventually(lambda: kinesis.describe_stream_summary(StreamName="hostile")["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE")
arn = kinesis.describe_stream_summary(StreamName="hostile")["StreamDescriptionSummary"]["StreamARN"]
kinesis.update_max_record_size(StreamARN=arn, MaxRecordSizeInKiB=10_240)
eventually(lambda: kinesis.describe_stream_summary(StreamName="hostile")["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE")
for key, data in RECORDS:
    kinesis.put_record(StreamName="hostile", PartitionKey=key, Data=data)

with browser() as started:
    console = Page(started, URL)
    page = console.page
    console.sign_in()
    console.go("hostile", "data")
    console.button("Read").click()
    rows = page.locator("tr.record")
    expect(rows).to_have_count(len(RECORDS))
    for at, (key, data) in enumerate(RECORDS):
        rows.nth(at).get_by_role("button").first.click()
        detail = page.locator("tr.detail:not([hidden])")
        expect(detail).to_have_count(1)
        for kind in ("Hex", "Text", "JSON"):
            if console.button(kind, detail).count():
                console.button(kind, detail).click()
        if key == "html":
            console.button("Text", detail).click()
            assert detail.locator("pre").inner_text() == ATTACK
        if key == "control":
            console.button("Text", detail).click()
            shown = detail.locator("pre").inner_text()
            assert "␀" in shown and "␛[31m" in shown and not any(ord(c) < 32 and c not in "\n\t" for c in shown), shown
        if key == "bidi":
            console.button("Text", detail).click()
            assert "[U+202E]" in detail.locator("pre").inner_text()
        assert page.locator("main img, main script, main iframe, main object, main a[href^='javascript']").count() == 0
        assert page.locator("main svg[onload]").count() == 0
        rows.nth(at).get_by_role("button").first.click()
    assert page.evaluate("() => [window.hacked, {}.x]") == [None, None]
    console.go("hostile", "put")
    if console.has_sql():
        console.query(f"SELECT _key, _data, 1 AS \"{ATTACK.replace(chr(34), chr(34) * 2)}\" FROM hostile ORDER BY _sequence")
        cells = page.locator(".result tbody tr")
        expect(cells).to_have_count(len(RECORDS))
        assert cells.nth(0).locator("td").nth(1).inner_text() == ATTACK
        assert page.locator(".result th").nth(2).inner_text().startswith(ATTACK)
        assert "[U+202E]" in cells.nth(3).inner_text() and "␛[31m" in cells.nth(2).inner_text()
        page.get_by_role("button", name="Columns of hostile").click()
        expect(page.locator(".columns:visible")).to_contain_text("<b>name</b>")
        page.locator(".columns:visible").get_by_role("button", name="<b>name</b>").click()
        console.query(f"SELECT '{ATTACK.replace(chr(39), chr(39) * 2)}' FROM \"{ATTACK}")
        expect(page.locator(".problem")).to_be_visible()
        assert page.locator("main img, main script, main svg[onload]").count() == 0
        assert page.evaluate("() => [window.hacked, {}.x]") == [None, None]

    # One line of 10 MiB: shown in parts, and the page still responds.
    kinesis.put_record(StreamName="hostile", PartitionKey="big", Data=(b"<b>" * (BIG // 3))[: BIG - 3])
    console.go("hostile", "data")
    console.button("Read").click()
    expect(rows).to_have_count(len(RECORDS) + 1, timeout=60_000)
    begun = time.monotonic()
    rows.last.get_by_role("button").first.click()
    detail = page.locator("tr.detail:not([hidden])")
    expect(detail.locator("pre")).to_be_visible()
    took = time.monotonic() - begun
    assert len(detail.locator("pre").inner_text()) <= 40_000
    expect(detail.get_by_role("button", name="Show more")).to_be_visible()
    detail.get_by_role("button", name="Show more").click()
    assert took < 10, f"{took} s to show a record of 10 MiB"
    wide = page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, f"the page is {wide} px too wide"
    if console.has_sql():
        console.query("SELECT _key, _data FROM hostile WHERE _key = 'big'")
        expect(page.locator(".result tbody tr")).to_have_count(1, timeout=60_000)
        assert len(page.locator(".result tbody").inner_text()) < 2_000
    assert page.evaluate("() => window.hacked") is None
    console.close()
    print(f"  {len(RECORDS)} hostile records and one of 10 MiB, which is shown after {took:.1f} s")
