"""2. Put many records at once, and put again what failed.

PutRecords is one request for up to 500 records and 10 MiB. It is not all or nothing: the answer says for each record whether it was
put. A record that was refused has to be put again, by you.
"""

import time

import course

kinesis = course.client()


def put_all(name, records):
    """Puts records until all are in. Returns how many requests that took."""
    requests = 0
    while records:
        answer = kinesis.put_records(StreamName=name, Records=records[:500])
        requests += 1
        outcomes = zip(records, answer["Records"])
        failed = [record for record, outcome in outcomes if "ErrorCode" in outcome]
        if failed:
            time.sleep(0.2)
        records = failed + records[500:]
    return requests


with course.stream(kinesis, shards=2) as name:
    records = [{"PartitionKey": f"user-{at % 7}", "Data": f"click {at}".encode()} for at in range(1_200)]
    requests = put_all(name, records)
    print(f"{len(records)} records in {requests} requests")

    got = course.read_all(kinesis, name)
    assert sorted(record["Data"] for record in got) == sorted(record["Data"] for record in records)

    # An invalid record fails the whole request, and nothing is put.
    try:
        kinesis.put_records(
            StreamName=name,
            Records=[
                {"PartitionKey": "a", "Data": b"good"},
                {"PartitionKey": "a", "Data": b"bad", "ExplicitHashKey": str(2**128)},
            ],
        )
        raise SystemExit("it was put")
    except kinesis.exceptions.InvalidArgumentException as error:
        print("refused:", error.response["Error"]["Message"])
    assert len(course.read_all(kinesis, name)) == len(records)

print("ok")
