"""What the scripts of the course share: a client, and a stream that is there for as long as a script runs."""

import contextlib
import os
import sys
import time
import uuid

import boto3

ENDPOINT = "AWS_ENDPOINT_URL_KINESIS"


def client(**settings):
    """Returns a client. Nothing in the scripts depends on whether it speaks to this server or to Amazon Kinesis."""
    if ENDPOINT not in os.environ and os.environ.get("COURSE_ON_AWS") != "yes":
        sys.exit(
            f"Set {ENDPOINT} to the server's address, such as http://127.0.0.1:4567.\n"
            "To run on Amazon Kinesis instead, which costs money, set COURSE_ON_AWS=yes."
        )
    return boto3.client("kinesis", **settings)


@contextlib.contextmanager
def stream(kinesis, shards=1, **settings):
    """Creates a stream of its own for a script, waits until it is ready, and deletes it at the end."""
    name = f"course-{uuid.uuid4().hex[:8]}"
    if shards:
        settings["ShardCount"] = shards
    kinesis.create_stream(StreamName=name, **settings)
    try:
        wait(kinesis, name)
        yield name
    finally:
        kinesis.delete_stream(StreamName=name, EnforceConsumerDeletion=True)


def wait(kinesis, name):
    """Waits until a stream is ACTIVE. boto3's waiter does the same, and asks every 10 seconds."""
    while kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamStatus"] != "ACTIVE":
        time.sleep(0.05)


def shards(kinesis, name):
    """Returns all shards of a stream, page by page."""
    pages = kinesis.get_paginator("list_shards").paginate(StreamName=name)
    return [shard for page in pages for shard in page["Shards"]]


def read_shard(kinesis, name, shard, position="TRIM_HORIZON", **more):
    """Yields what a shard holds now, in its order."""
    iterator = kinesis.get_shard_iterator(
        StreamName=name, ShardId=shard, ShardIteratorType=position, **more
    )["ShardIterator"]
    while iterator:
        try:
            got = kinesis.get_records(ShardIterator=iterator)
        except kinesis.exceptions.ProvisionedThroughputExceededException:
            # A shard allows 5 reads and 2 MiB a second.
            time.sleep(0.25)
            continue
        yield from got["Records"]
        # An empty answer does not mean the end: only this number does.
        if got["MillisBehindLatest"] == 0 and not got["Records"]:
            return
        iterator = got.get("NextShardIterator")


def read_all(kinesis, name):
    """Returns what all shards of a stream hold now: each shard in its order, parents before their children."""
    return [record for shard in shards(kinesis, name) for record in read_shard(kinesis, name, shard["ShardId"])]
