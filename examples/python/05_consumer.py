"""5. A consumer that follows splits and remembers where it was.

It reads all shards, goes on with the children of a shard that has ended, and notes the last number of each shard that it has handled: a
checkpoint. After a crash it goes on from there, so a record may be handled twice and is never left out. This is what the Kinesis Client
Library does, with checkpoints in DynamoDB and the shards shared among machines; see the next script.
"""

import json
import pathlib
import tempfile
import time

import course

kinesis = course.client()


class Consumer:
    def __init__(self, name, checkpoints):
        self.name, self.path = name, pathlib.Path(checkpoints)
        self.done = json.loads(self.path.read_text()) if self.path.exists() else {}

    def checkpoint(self, shard, number):
        self.done[shard] = number
        # Write a temporary file and rename it, so that a crash leaves the old file or the new one.
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps(self.done))
        temporary.rename(self.path)

    def run(self, handle, records_max):
        """Handles records until it has caught up with all shards, or has handled so many. Returns how many."""
        handled = 0
        while handled < records_max:
            before = dict(self.done)
            for shard in course.shards(kinesis, self.name):
                if self.is_ready(shard):
                    handled += self.read(shard["ShardId"], handle, records_max - handled)
            if self.done == before:
                return handled
        return handled

    def is_ready(self, shard):
        """All records of a parent come before those of its children, so a child waits until its parents have ended."""
        parents = [shard.get("ParentShardId"), shard.get("AdjacentParentShardId")]
        listed = {other["ShardId"] for other in course.shards(kinesis, self.name)}
        waits = any(parent in listed and self.done.get(parent) != "SHARD_END" for parent in parents)
        return not waits and self.done.get(shard["ShardId"]) != "SHARD_END"

    def read(self, shard, handle, records_max):
        number = self.done.get(shard)
        position = {"ShardIteratorType": "TRIM_HORIZON"}
        if number:
            position = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": number}
        iterator = kinesis.get_shard_iterator(StreamName=self.name, ShardId=shard, **position)["ShardIterator"]
        handled = 0
        while iterator and handled < records_max:
            try:
                got = kinesis.get_records(ShardIterator=iterator, Limit=min(10_000, records_max - handled))
            except kinesis.exceptions.ProvisionedThroughputExceededException:
                time.sleep(0.25)
                continue
            for record in got["Records"]:
                handle(record)
                handled += 1
            if got["Records"]:
                self.checkpoint(shard, got["Records"][-1]["SequenceNumber"])
            iterator = got.get("NextShardIterator")
            if not iterator:
                self.checkpoint(shard, "SHARD_END")
            elif got["MillisBehindLatest"] == 0:
                break
        return handled


with course.stream(kinesis) as name, tempfile.TemporaryDirectory() as directory:
    seen = []
    file = pathlib.Path(directory, "checkpoints.json")
    put = lambda at: kinesis.put_record(StreamName=name, PartitionKey="user-17", Data=str(at).encode())
    for at in range(30):
        put(at)
    shard = course.shards(kinesis, name)[0]
    middle = (int(shard["HashKeyRange"]["StartingHashKey"]) + int(shard["HashKeyRange"]["EndingHashKey"])) // 2 + 1
    kinesis.split_shard(StreamName=name, ShardToSplit=shard["ShardId"], NewStartingHashKey=str(middle))
    course.wait(kinesis, name)
    for at in range(30, 60):
        put(at)
    # The first consumer stops in the middle, and another one continues from its checkpoints.
    first = Consumer(name, file).run(lambda record: seen.append(int(record["Data"])), records_max=40)
    second = Consumer(name, file).run(lambda record: seen.append(int(record["Data"])), records_max=1_000)
    print(f"{first} records by the first consumer, {second} by the second, across a split")
    assert seen == list(range(60))

print("ok")
