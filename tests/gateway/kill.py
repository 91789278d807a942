"""Writers of records while the server is killed, again and again, and started again on the same directory.

    python kill.py DIRECTORY COMMAND...

The command runs a server. What it acknowledged has to be there afterwards: each record at its place, each setting. What it did not
acknowledge may be there once. Iterators and tokens from before a kill have to work after it.
"""

import collections
import os
import random
import sys
import threading
import time

from botocore.exceptions import BotoCoreError, ClientError
from common import ACCOUNT, REGION, Server, client, finish, until, until_active

STREAM = "killed"
ARN = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{STREAM}"
ROUNDS = int(os.environ.get("STREAMLOG_KILLS", 10))
WRITERS = 4
dice = random.Random(ROUNDS)
stop = threading.Event()


class Writer(threading.Thread):
    """Puts records one by one and in batches, and notes what comes back. It never tries a record again."""

    def __init__(self, url, number):
        super().__init__(daemon=True)
        self.kinesis, self.number = client(url), number
        # The places of acknowledged records, in the order of the puts, and the records with unknown outcome.
        self.acknowledged, self.unknown = [], set()
        self.failure = None

    def run(self):
        try:
            for count in range(10**9):
                if stop.is_set():
                    return
                self.put(count)
        except BaseException as failure:
            self.failure = failure

    def put(self, count):
        key = f"writer {self.number}"
        size = 1 if count % 3 else 20
        padding = "x" * (count * 37 % 2_000)
        records = [{"Data": f"{self.number} {count} {part} {padding}".encode(), "PartitionKey": key} for part in range(size)]
        try:
            if size == 1:
                places = [self.kinesis.put_record(StreamName=STREAM, **records[0])]
            else:
                answer = self.kinesis.put_records(StreamName=STREAM, Records=records)
                assert answer["FailedRecordCount"] == 0, answer
                places = answer["Records"]
        except ClientError as error:
            raise AssertionError(f"a put was refused: {error}") from error
        except BotoCoreError:
            # The server is gone, and may have put them.
            self.unknown.update(record["Data"] for record in records)
            time.sleep(0.01)
            return
        for record, place in zip(records, places, strict=True):
            self.acknowledged.append((record["Data"], place["ShardId"], place["SequenceNumber"]))


def records_from(kinesis, iterator):
    """Yields all records behind an iterator, to the end of the shard or of what it has now."""
    while iterator:
        answer = kinesis.get_records(ShardIterator=iterator)
        yield from answer["Records"]
        if not answer["Records"] and answer["MillisBehindLatest"] == 0:
            return
        iterator = answer.get("NextShardIterator")


def place(record, shard):
    return record["Data"], shard, record["SequenceNumber"]


def issue(kinesis, writers):
    """Returns tokens of all kinds, each with a check of what it gives later."""
    tokens = []
    for writer in writers:
        data, shard, number = writer.acknowledged[dice.randrange(len(writer.acknowledged))]
        iterator = kinesis.get_shard_iterator(
            StreamName=STREAM, ShardId=shard, ShardIteratorType="AT_SEQUENCE_NUMBER", StartingSequenceNumber=number
        )["ShardIterator"]

        def read(iterator=iterator, expected=(data, shard, number)):
            (record,) = kinesis.get_records(ShardIterator=iterator, Limit=1)["Records"]
            assert place(record, expected[1]) == expected

        tokens.append(read)
    streams = kinesis.list_streams(Limit=1)["NextToken"]
    tokens.append(lambda: kinesis.list_streams(NextToken=streams)["StreamNames"] == ["other"])
    shards = kinesis.list_shards(StreamName=STREAM, MaxResults=1)["NextToken"]
    tokens.append(lambda: kinesis.list_shards(NextToken=shards)["Shards"][0]["ShardId"] == "shardId-000000000001")
    consumers = kinesis.list_stream_consumers(StreamARN=ARN, MaxResults=1)["NextToken"]
    names = lambda listed: [consumer["ConsumerName"] for consumer in listed["Consumers"]]
    tokens.append(lambda: names(kinesis.list_stream_consumers(StreamARN=ARN, NextToken=consumers)) == ["second"])
    return tokens


def check(kinesis, writers):
    """Compares all records of the stream with what the writers know."""
    found = {}
    shards = kinesis.list_shards(StreamName=STREAM)["Shards"]
    for shard in shards:
        iterator = kinesis.get_shard_iterator(
            StreamName=STREAM, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        last = 0
        for record in records_from(kinesis, iterator):
            assert int(record["SequenceNumber"]) > last, "numbers increase"
            last = int(record["SequenceNumber"])
            assert record["Data"] not in found, f"{record['Data'][:40]} is there twice"
            assert record["PartitionKey"] == f"writer {record['Data'].split()[0].decode()}"
            found[record["Data"]] = place(record, shard["ShardId"])
    for writer in writers:
        lasts = collections.Counter()
        for expected in writer.acknowledged:
            assert found.pop(expected[0], None) == expected, f"{expected[0][:40]} was acknowledged, and is not at {expected[1:]}"
            _, shard, number = expected
            assert int(number) > lasts[shard], "the records of a writer are in the order of its puts"
            lasts[shard] = int(number)
    unknown = set().union(*(writer.unknown for writer in writers))
    assert set(found) <= unknown, "there are records that nobody has put"
    return len(shards), len(found)


with Server(sys.argv[2:], sys.argv[1]) as server:
    kinesis = client(server.url, attempts=5)
    for name in (STREAM, "other"):
        kinesis.create_stream(StreamName=name, ShardCount=2)
    until_active(kinesis, STREAM)
    for name in ("first", "second"):
        kinesis.register_stream_consumer(StreamARN=ARN, ConsumerName=name)
    writers = [Writer(server.url, number) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    tags = {}
    for number in range(ROUNDS):
        before = [len(writer.acknowledged) for writer in writers]
        has_put = lambda: all(len(writer.acknowledged) > count for writer, count in zip(writers, before)) or stop.is_set()
        until(has_put, "all writers go on: " + "; ".join(str(writer.failure) for writer in writers if writer.failure))
        tokens = issue(kinesis, writers)
        kinesis.add_tags_to_stream(StreamName=STREAM, Tags={f"round-{number}": "done"})
        tags[f"round-{number}"] = "done"
        if number in (3, 6):
            # It was acknowledged, so it is complete after the kill, and the records continue in the children.
            open_shards = kinesis.list_shards(StreamName=STREAM, ShardFilter={"Type": "AT_LATEST"})["Shards"]
            middle = sum(int(text) for text in open_shards[0]["HashKeyRange"].values()) // 2
            kinesis.split_shard(
                StreamName=STREAM, ShardToSplit=open_shards[0]["ShardId"], NewStartingHashKey=str(middle)
            )
        time.sleep(dice.random() * 0.4)
        server.kill()
        time.sleep(dice.random() * 0.1)
        server.start()
        listed = kinesis.list_tags_for_stream(StreamName=STREAM)["Tags"]
        assert {tag["Key"]: tag["Value"] for tag in listed} == tags, "acknowledged tags are there"
        for token in tokens:
            assert token() in (None, True), "a token from before the kill works"
    stop.set()
    for writer in writers:
        writer.join()
        assert writer.failure is None, writer.failure
    shards, surplus = check(kinesis, writers)
    acknowledged = sum(len(writer.acknowledged) for writer in writers)
finish(kills=ROUNDS, acknowledged_records=acknowledged, records_without_an_answer=surplus, shards=shards)
