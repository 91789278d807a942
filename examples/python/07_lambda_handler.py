"""7. A Lambda-style handler.

Lambda reads shards for you and calls a function with batches. The function says which records failed by their sequence numbers, and Lambda comes
again from the first of these. This script does Lambda's part, so that you can try a handler before you deploy it.
"""

import base64

import course

kinesis = course.client()
handled, attempts = [], {}


def handler(event, context):
    """Counts clicks. The first attempt at each third record fails, as when a database is not there for a moment."""
    for record in event["Records"]:
        data = base64.b64decode(record["kinesis"]["data"])
        number = record["kinesis"]["sequenceNumber"]
        attempts[number] = attempts.get(number, 0) + 1
        if len(handled) % 3 == 2 and attempts[number] == 1:
            # All records before it count as done. It and all later ones are delivered again.
            return {"batchItemFailures": [{"itemIdentifier": number}]}
        handled.append(data)
    return {"batchItemFailures": []}


def event_of(arn, shard, records):
    """Returns the event that Lambda would make of these records."""
    return {"Records": [{
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": record["PartitionKey"],
            "sequenceNumber": record["SequenceNumber"],
            "data": base64.b64encode(record["Data"]).decode(),
            "approximateArrivalTimestamp": record["ApproximateArrivalTimestamp"].timestamp(),
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"{shard}:{record['SequenceNumber']}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:aws:iam::000000000000:role/course",
        "awsRegion": kinesis.meta.region_name,
        "eventSourceARN": arn,
    } for record in records]}


def run(name, shard, batch_size=4):
    """Calls the handler with batches, and with what failed again."""
    arn = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"]
    waiting, calls = list(course.read_shard(kinesis, name, shard)), 0
    while waiting:
        batch = waiting[:batch_size]
        failures = handler(event_of(arn, shard, batch), None)["batchItemFailures"]
        calls += 1
        numbers = [record["SequenceNumber"] for record in batch]
        done = min([numbers.index(failure["itemIdentifier"]) for failure in failures], default=len(batch))
        waiting = waiting[done:]
    return calls


with course.stream(kinesis) as name:
    clicks = [f"click {at}".encode() for at in range(20)]
    for click in clicks:
        kinesis.put_record(StreamName=name, PartitionKey="user-17", Data=click)
    calls = run(name, "shardId-000000000000")
    print(f"{len(handled)} records in {calls} calls")
    assert handled == clicks, "each once, in order"

print("ok")
