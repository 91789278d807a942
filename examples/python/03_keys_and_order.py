"""3. Partition keys decide the shard, and the order.

The records of one key are read in the order in which they were put. There is no order between shards. A key that is too busy makes
one shard busy, however many shards there are.
"""

import collections
import hashlib

import course

kinesis = course.client()


def owner(shards, key):
    """Returns the shard that owns a key: the MD5 hash of the key is a number of 128 bits, and each shard owns a range."""
    number = int(hashlib.md5(key.encode()).hexdigest(), 16)
    for shard in shards:
        owned = shard["HashKeyRange"]
        if int(owned["StartingHashKey"]) <= number <= int(owned["EndingHashKey"]):
            return shard["ShardId"]


with course.stream(kinesis, shards=4) as name:
    shards = course.shards(kinesis, name)
    users = [f"user-{at}" for at in range(20)]
    for step in ["/", "/cart", "/checkout"]:
        for user in users:
            put = kinesis.put_record(StreamName=name, PartitionKey=user, Data=step.encode())
            assert put["ShardId"] == owner(shards, user)

    seen = collections.defaultdict(list)
    for record in course.read_all(kinesis, name):
        seen[record["PartitionKey"]].append(record["Data"])
    assert all(seen[user] == [b"/", b"/cart", b"/checkout"] for user in users)

    spread = collections.Counter(owner(shards, user) for user in users)
    print("keys of each shard:", dict(spread))

    # An explicit hash key selects the shard of a record. The record keeps its partition key.
    last = shards[-1]
    placed = kinesis.put_record(
        StreamName=name, PartitionKey="user-1", Data=b"", ExplicitHashKey=last["HashKeyRange"]["StartingHashKey"]
    )
    assert placed["ShardId"] == last["ShardId"]

    # To put one record after another, pass the number of the first. The new record gets a greater number.
    after = kinesis.put_record(
        StreamName=name, PartitionKey="user-1", Data=b"", SequenceNumberForOrdering=placed["SequenceNumber"],
        ExplicitHashKey=last["HashKeyRange"]["StartingHashKey"],
    )
    assert int(after["SequenceNumber"]) > int(placed["SequenceNumber"])

print("ok")
