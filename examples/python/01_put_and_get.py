"""1. Put a record, and get it back.

A stream is made of shards. A record goes to the shard that owns the hash of its partition key, and gets a sequence
number there. A reader asks for an iterator at a position, and then for records.
"""

import course

kinesis = course.client()

with course.stream(kinesis) as name:
    put = kinesis.put_record(StreamName=name, PartitionKey="user-17", Data=b"/checkout")
    print("put into", put["ShardId"], "as number", put["SequenceNumber"])

    iterator = kinesis.get_shard_iterator(
        StreamName=name, ShardId=put["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    got = kinesis.get_records(ShardIterator=iterator)
    record = got["Records"][0]
    print("got", record["Data"], "of", record["PartitionKey"], "that arrived at", record["ApproximateArrivalTimestamp"])

    assert record["Data"] == b"/checkout"
    assert record["SequenceNumber"] == put["SequenceNumber"]
    # Reading removes nothing. The same iterator returns the same records again, for five minutes.
    assert kinesis.get_records(ShardIterator=iterator)["Records"][0] == record

print("ok")
