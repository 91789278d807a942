"""14. Latency against throughput, drawn.

A record that waits for company costs less and arrives later. This script puts at several sizes of batch, with several threads, into several numbers of
shards, and draws how long a record waits from being made to being read, against how many are put in a second. The picture is trade-off.png.
"""

import os
import statistics
import threading
import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import course

kinesis = course.client()
SECONDS = float(os.environ.get("COURSE_SECONDS", "1"))
BATCHES = [1, 5, 20, 100, 500]


def measure(name, shards, batch):
    """Returns records a second, and the median of milliseconds from the first record of a batch being made to its answer."""
    counts, waits = [0] * shards, []

    def work(at):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            made = time.monotonic()
            records = [{"PartitionKey": f"{at}-{number}", "Data": b"x" * 200} for number in range(batch)]
            answer = kinesis.put_records(StreamName=name, Records=records)
            counts[at] += batch - answer["FailedRecordCount"]
            waits.append((time.monotonic() - made) * 1_000)
            if answer["FailedRecordCount"]:
                time.sleep(0.1)

    threads = [threading.Thread(target=work, args=(at,)) for at in range(shards)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - began), statistics.median(waits)


figure, axes = plt.subplots(figsize=(8, 5))
for shards in [1, 2, 4]:
    with course.stream(kinesis, shards=shards) as name:
        points = [measure(name, shards, batch) for batch in BATCHES]
    rates, waits = zip(*points)
    axes.plot(rates, waits, marker="o", label=f"{shards} shards and threads" if shards > 1 else "1 shard, 1 thread")
    for batch, rate, wait in zip(BATCHES, rates, waits):
        axes.annotate(str(batch), (rate, wait), textcoords="offset points", xytext=(5, 5), fontsize=8)
        print(f"{shards} shards, batches of {batch:3}: {rate:8,.0f} records/s, {wait:6.1f} ms")
    assert rates[-1] > 0
axes.set_xscale("log")
axes.set_yscale("log")
axes.set_xlabel("records a second")
axes.set_ylabel("milliseconds from making a batch to its answer (median)")
axes.set_title("Larger batches: more throughput, more latency (numbers: records in a batch)")
axes.grid(True, which="both", alpha=0.3)
axes.legend()
figure.tight_layout()
figure.savefig("trade-off.png", dpi=110)
print("drawn: trade-off.png")

print("ok")
