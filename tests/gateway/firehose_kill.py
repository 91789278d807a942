"""Producers of two delivery streams while the server is killed, again and again, and started again on the same directory.

    python firehose_kill.py DIRECTORY BUCKETS COMMAND...

One has its records from puts, the other from a stream of Kinesis. What the server acknowledged is delivered exactly once, and what it did not
acknowledge once at most, whatever it was doing when it was killed; also when a destination is updated and shards split meanwhile.
"""

import collections
import os
import pathlib
import random
import sys
import threading
import time

from botocore.exceptions import BotoCoreError, ClientError
from common import ACCOUNT, REGION, Server, client, finish, until, until_active

directory, buckets, *command = sys.argv[1:]
ROUNDS = int(os.environ.get("STREAMLOG_KILLS", 12))
ROLE = f"arn:aws:iam::{ACCOUNT}:role/delivery"
DESTINATION = "destinationId-000000000001"
dice = random.Random(ROUNDS)
os.environ["STREAMLOG_GATEWAY_BUCKETS"] = buckets


def lines(bucket):
    """Returns how often each line is there."""
    files = [path for path in pathlib.Path(buckets, bucket).rglob("*") if path.is_file() and path.suffix != ".partial"]
    return collections.Counter(line for path in files for line in path.read_bytes().splitlines())


def destination(bucket):
    return {"RoleARN": ROLE, "BucketARN": f"arn:aws:s3:::{bucket}", "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 0}}


acknowledged, unknown = {"puts": set(), "stream": set()}, {"puts": set(), "stream": set()}


def put(bucket, call, records):
    """Puts records, and notes what is known of them afterwards. Returns whether the server was there."""
    try:
        call(records)
    except BotoCoreError:
        unknown[bucket].update(records)
        return False
    except ClientError as error:
        # While the streams are opened.
        assert error.response["Error"]["Code"] in ("ResourceNotFoundException", "ResourceInUseException", "InternalFailure"), error
        unknown[bucket].update(records)
        return True
    acknowledged[bucket].update(records)
    return True


with Server(command, directory) as server:
    firehose, kinesis = client(server.url, "firehose"), client(server.url)
    kinesis.create_stream(StreamName="source", ShardCount=2)
    until_active(kinesis, "source")
    firehose.create_delivery_stream(DeliveryStreamName="puts", S3DestinationConfiguration=destination("puts"))
    source = {"KinesisStreamARN": f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/source", "RoleARN": ROLE}
    firehose.create_delivery_stream(
        DeliveryStreamName="stream",
        DeliveryStreamType="KinesisStreamAsSource",
        KinesisStreamSourceConfiguration=source,
        S3DestinationConfiguration=destination("stream"),
    )
    status = lambda name: firehose.describe_delivery_stream(DeliveryStreamName=name)["DeliveryStreamDescription"]["DeliveryStreamStatus"]
    until(lambda: {status("puts"), status("stream")} == {"ACTIVE"}, "both are ACTIVE")

    def to_firehose(records):
        answer = firehose.put_record_batch(DeliveryStreamName="puts", Records=[{"Data": record + b"\n"} for record in records])
        assert answer["FailedPutCount"] == 0, answer

    def to_kinesis(records):
        entries = [{"Data": record + b"\n", "PartitionKey": record.decode()} for record in records]
        answer = kinesis.put_records(StreamName="source", Records=entries)
        assert answer["FailedRecordCount"] == 0, answer

    number = 0
    for round in range(ROUNDS):
        # The kill happens while records are put, and while earlier ones are delivered.
        threading.Timer(dice.uniform(0.05, 0.6), server.process.kill).start()
        while server.process.poll() is None:
            records = [f"record {number + part:07}".encode() for part in range(dice.choice((1, 20, 200)))]
            number += len(records)
            put("puts", to_firehose, records)
            put("stream", to_kinesis, records)
        server.kill()
        server.start()
        if round % 3 == 1:
            # The settings change while records are in flight.
            version = firehose.describe_delivery_stream(DeliveryStreamName="puts")["DeliveryStreamDescription"]["VersionId"]
            firehose.update_destination(
                DeliveryStreamName="puts", CurrentDeliveryStreamVersionId=version, DestinationId=DESTINATION,
                S3DestinationUpdate={"Prefix": f"round-{round}/"},
            )
        if round == ROUNDS // 2:
            kinesis.split_shard(StreamName="source", ShardToSplit="shardId-000000000000", NewStartingHashKey="1" + "0" * 36)
    for bucket in acknowledged:
        until(lambda: acknowledged[bucket] <= lines(bucket).keys(), f"all of {bucket} is delivered", 60)
    # Any duplicates arrive by then.
    time.sleep(0.5)
    for bucket in acknowledged:
        found = lines(bucket)
        twice = [line for line, count in found.items() if count > 1]
        assert not twice, f"of {bucket} there are twice: {twice[:5]} and {len(twice)} in all"
        strange = found.keys() - acknowledged[bucket] - unknown[bucket]
        assert not strange, f"of {bucket} nobody has put: {list(strange)[:5]}"
finish(kills=ROUNDS, records=sum(map(len, acknowledged.values())), unknown=sum(map(len, unknown.values())))
