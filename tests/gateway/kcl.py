"""Amazon's KCL 3 on a stream that splits and merges: once by polling and once by enhanced fan-out, at the same time.

    python kcl.py JAVA DIRECTORY KILLS COMMAND...

The command runs a server, which is killed so many times while the KCL works. moto stands in for DynamoDB. In the end, each application
has been given each record, and the records of each shard in their order; and it begins a child after all its parents have ended.
"""

import collections
import os
import sys
import time

from common import Server, client, finish, until, until_active
from kcl_programs import Daemon, programs, run_to_the_end, start_moto

JAVA, DIRECTORY, KILLS = sys.argv[1], sys.argv[2], int(sys.argv[3])
STREAM = "clicks"
SECONDS_MAX = 85
deadline = time.monotonic() + SECONDS_MAX
SHARDS = [f"shardId-{number:012}" for number in range(5)]
# The first shard is split, and the upper child is merged with the second shard.
PARENTS = {
    SHARDS[0]: [], SHARDS[1]: [], SHARDS[2]: [SHARDS[0]], SHARDS[3]: [SHARDS[0]], SHARDS[4]: [SHARDS[3], SHARDS[1]],
}


class Application(Daemon):
    """The KCL with one way to get records."""

    def __init__(self, mode, kinesis_url, dynamodb_url):
        self.mode = mode
        properties = {
            "streamName": STREAM,
            "applicationName": f"app-{mode.lower()}",
            "workerIdentifier": "worker",
            "kinesisEndpoint": kinesis_url,
            "dynamoDBEndpoint": dynamodb_url,
            "cloudWatchEndpoint": dynamodb_url,
            "retrievalMode": mode,
            "failoverTimeMillis": 4_000,
        }
        super().__init__(JAVA, DIRECTORY, mode, properties)

    def has(self, event, wanted, what):
        return wanted <= {one[what] for one in self.events() if one["event"] == event}


def check(application, put):
    """Checks what an application was given."""
    ended, last, done, counts = set(), {}, {}, collections.Counter()
    for event in application.events():
        shard = event["shard"]
        if event["event"] == "init":
            early = set(PARENTS[shard]) - ended
            assert not early, f"{application.mode}: {shard} begins before {early} have ended"
            # It resumes after the last checkpoint.
            last[shard] = done.get(shard, 0)
        elif event["event"] == "end":
            ended.add(shard)
        elif event["event"] == "checkpoint":
            done[shard] = int(event["number"])
        elif event["event"] == "record":
            number = int(event["number"])
            assert shard not in ended, f"{application.mode}: a record of {shard} after its end"
            assert number > last[shard], f"{application.mode}: {number} comes after {last[shard]}"
            last[shard] = number
            counts[event["data"]] += 1
            assert (event["shard"], event["number"]) in put[event["data"]], f"{event} is none of {put[event['data']]}"
    assert set(counts) == set(put), f"{application.mode}: {set(put) - set(counts)} are lost"
    return sum(counts.values()) - len(counts)


def run():
    dynamodb = start_moto(DIRECTORY)
    with Server(sys.argv[4:], os.path.join(DIRECTORY, "streams")) as server:
        kinesis = client(server.url, attempts=10)
        kinesis.create_stream(StreamName=STREAM, ShardCount=2)
        until_active(kinesis, STREAM)
        # The places of each record: two if the client has retried.
        put = {}

        def put_more(count):
            for _ in range(count):
                data = f"record {len(put)}"
                answer = kinesis.put_record(StreamName=STREAM, Data=data.encode(), PartitionKey=f"key {len(put) % 17}")
                put[data] = {(answer["ShardId"], answer["SequenceNumber"])}

        def wait(condition, what):
            ends = [program for program in programs if program.process.poll() is not None]
            assert not ends, f"{[program.log for program in ends]} ended by themselves"
            left = max(0, deadline - time.monotonic())
            until(lambda: all(condition(application) for application in applications), what, left)

        def kill(number):
            if number < KILLS:
                server.kill()
                time.sleep(1)
                server.start()

        put_more(20)
        applications = [Application(mode, server.url, dynamodb) for mode in ("POLLING", "FANOUT")]
        wait(lambda it: it.has("record", set(put), "data"), "the first records are there")
        put_more(20)
        kinesis.split_shard(StreamName=STREAM, ShardToSplit=SHARDS[0], NewStartingHashKey=str(2**126))
        put_more(20)
        kill(0)
        put_more(20)
        wait(lambda it: it.has("init", set(SHARDS[2:4]), "shard"), "the children of the split have begun")
        put_more(20)
        until_active(kinesis, STREAM)
        kinesis.merge_shards(StreamName=STREAM, ShardToMerge=SHARDS[3], AdjacentShardToMerge=SHARDS[1])
        kill(1)
        put_more(20)
        wait(lambda it: it.has("record", set(put), "data"), "all records are there")
        closed = {SHARDS[0], SHARDS[1], SHARDS[3]}
        wait(lambda it: it.has("end", closed, "shard"), "all closed shards have ended")
        # A record may be there more than once, if a put was killed before its answer and retried.
        for shard in SHARDS:
            iterator = kinesis.get_shard_iterator(StreamName=STREAM, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
            for record in kinesis.get_records(ShardIterator=iterator["ShardIterator"])["Records"]:
                put[record["Data"].decode()].add((shard, record["SequenceNumber"]))
        repeated = [check(application, put) for application in applications]
        finish(kills=KILLS, records=len(put), shards=len(SHARDS), records_given_again=sum(repeated))


run_to_the_end(run)
