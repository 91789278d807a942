"""10. Enhanced fan-out: records are pushed, and each consumer has a pipe of its own.

With GetRecords, all readers of a shard share 2 MiB and 5 calls a second. A registered consumer has 2 MiB a second of each shard for itself, and
gets records as they arrive. A subscription ends after five minutes; go on with a new one from the last continuation number.
"""

import threading
import time

import course

kinesis = course.client()


def register(arn, name):
    consumer = kinesis.register_stream_consumer(StreamARN=arn, ConsumerName=name)["Consumer"]
    while consumer["ConsumerStatus"] != "ACTIVE":
        time.sleep(0.05)
        consumer = kinesis.describe_stream_consumer(ConsumerARN=consumer["ConsumerARN"])["ConsumerDescription"]
    return consumer["ConsumerARN"]


def follow(consumer, shard, count, seen):
    """Takes records as they are pushed, until there were so many."""
    answer = kinesis.subscribe_to_shard(
        ConsumerARN=consumer, ShardId=shard, StartingPosition={"Type": "TRIM_HORIZON"}
    )
    for event in answer["EventStream"]:
        pushed = event["SubscribeToShardEvent"]
        seen.extend((record["Data"], time.time()) for record in pushed["Records"])
        if len(seen) >= count:
            break
    answer["EventStream"].close()


COUNT = 20

with course.stream(kinesis) as name:
    arn = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"]
    consumers = [register(arn, consumer) for consumer in ("billing", "fraud")]
    seen = [[] for _ in consumers]
    followers = [
        threading.Thread(target=follow, args=(consumer, "shardId-000000000000", COUNT, records))
        for consumer, records in zip(consumers, seen)
    ]
    for follower in followers:
        follower.start()
    sent = []
    for at in range(COUNT):
        sent.append(time.time())
        kinesis.put_record(StreamName=name, PartitionKey="user-17", Data=str(at).encode())
        time.sleep(0.02)
    for follower in followers:
        follower.join(timeout=30)
    for consumer, records in zip(("billing", "fraud"), seen):
        assert [data for data, _ in records] == [str(at).encode() for at in range(COUNT)]
        delays = sorted(arrived - put for (_, arrived), put in zip(records, sent))
        print(f"{consumer}: {len(records)} records, half of them within {delays[len(delays) // 2] * 1_000:.1f} ms of the put")
    for consumer in consumers:
        kinesis.deregister_stream_consumer(ConsumerARN=consumer)

print("ok")
