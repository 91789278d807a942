"""8. Throttling, and retries with jitter.

A shard takes 1,000 records and 1 MiB a second. What is more is refused. A producer that tries again at once makes it worse, and producers that
try again at the same moment meet again. So wait a random time, up to a bound that doubles with each attempt ("full jitter").

Start the server with `--limits kinesis`, as Amazon Kinesis has them. Without limits, nothing is refused, and the script says so.
"""

import random
import time

import botocore.config

import course

# boto3 retries by itself. Disable that, so that the script sees the errors.
kinesis = course.client(config=botocore.config.Config(retries={"max_attempts": 0}))

FIRST, MOST = 0.05, 2.0


def put_with_jitter(name, records):
    """Puts records until all are in. Returns how many times records were refused."""
    refused, attempt = 0, 0
    while records:
        answer = kinesis.put_records(StreamName=name, Records=records)
        outcomes = zip(records, answer["Records"])
        failed = [record for record, outcome in outcomes if "ErrorCode" in outcome]
        refused += len(failed)
        attempt = attempt + 1 if len(failed) == len(records) else 0
        records = failed
        if records:
            time.sleep(random.uniform(0, min(MOST, FIRST * 2**attempt)))
    return refused


with course.stream(kinesis) as name:
    began, refused, count = time.monotonic(), 0, 0
    for part in range(6):
        records = [{"PartitionKey": str(at), "Data": b"x" * 100} for at in range(500)]
        refused += put_with_jitter(name, records)
        count += len(records)
    took = time.monotonic() - began
    print(f"{count} records into one shard in {took:.1f} s; {refused} times a record was refused")
    assert len(course.read_all(kinesis, name)) == count
    if refused:
        assert took > 1.5, "a shard takes 1,000 a second"
    else:
        print("the server has no limits")

print("ok")
