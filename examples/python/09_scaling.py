"""9. Scaling: more shards, fewer shards, and on demand.

A provisioned stream has as many shards as you say. Splits and merges happen while records are put and read; the order of each key holds.
An on-demand stream decides by itself.
"""

import course

kinesis = course.client()


def open_shards(name):
    listed = kinesis.list_shards(StreamName=name, ShardFilter={"Type": "AT_LATEST"})["Shards"]
    # Together they cover the hash-key space exactly once.
    ranges = sorted(
        (int(shard["HashKeyRange"]["StartingHashKey"]), int(shard["HashKeyRange"]["EndingHashKey"])) for shard in listed
    )
    assert ranges[0][0] == 0 and ranges[-1][1] == 2**128 - 1
    assert all(before[1] + 1 == after[0] for before, after in zip(ranges, ranges[1:]))
    return listed


with course.stream(kinesis, shards=2) as name:
    put = lambda step: [
        kinesis.put_record(StreamName=name, PartitionKey=f"user-{at}", Data=step) for at in range(10)
    ]
    put(b"before")
    kinesis.update_shard_count(StreamName=name, TargetShardCount=4, ScalingType="UNIFORM_SCALING")
    course.wait(kinesis, name)
    put(b"with four")
    assert len(open_shards(name)) == 4

    a, b = sorted(open_shards(name), key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))[:2]
    kinesis.merge_shards(StreamName=name, ShardToMerge=a["ShardId"], AdjacentShardToMerge=b["ShardId"])
    course.wait(kinesis, name)
    put(b"with three")
    assert len(open_shards(name)) == 3

    steps = {}
    for record in course.read_all(kinesis, name):
        steps.setdefault(record["PartitionKey"], []).append(record["Data"])
    assert all(step == [b"before", b"with four", b"with three"] for step in steps.values())
    for shard in course.shards(kinesis, name):
        state = "closed" if "EndingSequenceNumber" in shard["SequenceNumberRange"] else "open"
        print(shard["ShardId"], state, "child of", shard.get("ParentShardId", "none"), shard.get("AdjacentParentShardId", ""))

    # Scaling to more than double in one step is refused.
    try:
        kinesis.update_shard_count(StreamName=name, TargetShardCount=7, ScalingType="UNIFORM_SCALING")
        raise SystemExit("it was scaled")
    except (kinesis.exceptions.InvalidArgumentException, kinesis.exceptions.LimitExceededException) as error:
        print("refused:", error.response["Error"]["Message"])

with course.stream(kinesis, shards=None, StreamModeDetails={"StreamMode": "ON_DEMAND"}) as name:
    assert len(open_shards(name)) == 4
    try:
        kinesis.split_shard(StreamName=name, ShardToSplit="shardId-000000000000", NewStartingHashKey="2")
        raise SystemExit("it was split")
    except kinesis.exceptions.ClientError as error:
        print("on demand:", error.response["Error"]["Message"])

print("ok")
