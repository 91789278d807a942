"""Two of our workers and one of Amazon's KCL share an application, through a split and the death of one of ours.

    python kcl_shared.py JAVA DIRECTORY KINESIS DYNAMODB WORKER...

The command runs a worker of ours; what it has to know is in its environment. In the end, each record was given to one of the three, the children of the
split began after their parent had ended, and each kind of worker has done its part.
"""

import collections
import json
import os
import sys
import time

from common import client, finish, until
from kcl_programs import Daemon, Program, programs, run_to_the_end

JAVA, DIRECTORY, KINESIS, DYNAMODB = sys.argv[1:5]
STREAM, APPLICATION = "clicks", "shared"
FAILOVER_MILLIS = 4_000
SECONDS_MAX = 110
deadline = time.monotonic() + SECONDS_MAX


class Ours(Program):
    """A worker of this library."""

    def __init__(self, name):
        self.out = os.path.join(DIRECTORY, name + ".txt")
        environment = {
            "KINESIS": KINESIS, "DYNAMODB": DYNAMODB, "OUT": self.out, "SPOOLS": os.path.join(DIRECTORY, "spools-" + name),
            "WORKER": name, "APPLICATION": APPLICATION, "FAILOVER_MILLIS": str(FAILOVER_MILLIS),
        }
        environment = {f"STREAMLOG_SOURCE_{name}": value for name, value in environment.items()}
        super().__init__(DIRECTORY, name, sys.argv[5:], **environment)

    def got(self):
        if not os.path.exists(self.out):
            return []
        with open(self.out) as file:
            return [line.rstrip("\n").split(" ", 2) for line in file if line.endswith("\n")]


class Kcl(Daemon):
    """A worker of the KCL."""

    def __init__(self):
        properties = {
            "streamName": STREAM,
            "applicationName": APPLICATION,
            "workerIdentifier": "kcl",
            "kinesisEndpoint": KINESIS,
            "dynamoDBEndpoint": DYNAMODB,
            "cloudWatchEndpoint": DYNAMODB,
            "retrievalMode": "POLLING",
            "failoverTimeMillis": FAILOVER_MILLIS,
        }
        super().__init__(JAVA, DIRECTORY, "kcl", properties)

    def got(self):
        return [(event["shard"], event["number"], event["data"]) for event in self.events() if event["event"] == "record"]


def run():
    kinesis, dynamodb = client(KINESIS, attempts=10), client(DYNAMODB, "dynamodb")
    put = {}

    def put_some(count):
        for _ in range(count):
            data = f"record {len(put)}"
            answer = kinesis.put_record(StreamName=STREAM, Data=data.encode(), PartitionKey=f"key {len(put) % 40}")
            put[data] = answer["ShardId"]

    def leases():
        try:
            items = dynamodb.scan(TableName=APPLICATION, ConsistentRead=True)["Items"]
        except dynamodb.exceptions.ResourceNotFoundException:
            return {}
        return {item["leaseKey"]["S"]: item for item in items}

    def owners(is_open=True):
        rows = leases().values()
        rows = [row for row in rows if not is_open or row["checkpoint"]["S"] != "SHARD_END"]
        return collections.Counter(row.get("leaseOwner", {}).get("S") for row in rows)

    def wait(condition, what):
        until(condition, what, max(0, deadline - time.monotonic()))

    workers = [Ours("ours-1"), Ours("ours-2")]
    put_some(40)
    wait(lambda: set(owners()) == {"ours-1", "ours-2"}, "ours share the shards")
    kcl = Kcl()
    everybody = [*workers, kcl]

    def is_shared():
        put_some(5)
        return set(owners()) == {"ours-1", "ours-2", "kcl"} and all(worker.got() for worker in everybody)

    wait(is_shared, "the KCL has a share, and all have got records")
    parent = next(key for key, row in leases().items() if row.get("leaseOwner", {}).get("S") == "kcl")
    shard = next(one for one in kinesis.list_shards(StreamName=STREAM)["Shards"] if one["ShardId"] == parent)
    middle = (int(shard["HashKeyRange"]["StartingHashKey"]) + int(shard["HashKeyRange"]["EndingHashKey"])) // 2
    put_some(40)
    kinesis.split_shard(StreamName=STREAM, ShardToSplit=parent, NewStartingHashKey=str(middle))
    put_some(80)
    split = {one["ShardId"] for one in kinesis.list_shards(StreamName=STREAM)["Shards"] if one.get("ParentShardId") == parent}

    def all_are_there():
        return set(put) <= {data for worker in everybody for _, _, data in worker.got()}

    wait(lambda: split <= set(leases()), "the children of the split have leases")
    wait(all_are_there, "all records are there after the split")
    # It dies abruptly. Its leases pass to our workers or to the KCL.
    workers[0].end()
    put_some(200)
    wait(all_are_there, "all records are there after the death of one")
    wait(lambda: "ours-1" not in owners(), "the leases of the dead have passed on")
    assert all(program.process.poll() is None for program in programs if program is not workers[0])

    # No record of a child comes before the last one of its parent was done.
    ended = leases().get(parent)
    assert ended is None or ended["checkpoint"]["S"] == "SHARD_END", ended
    given = collections.Counter(data for worker in everybody for _, _, data in worker.got())
    assert set(given) == set(put), set(put) ^ set(given)
    for worker in everybody:
        for shard, _, data in worker.got():
            assert put[data] == shard, f"{data} is of {put[data]}, and was given as one of {shard}"
    shares = {os.path.basename(worker.log): len(worker.got()) for worker in everybody}
    print(json.dumps(shares))
    finish(records=len(put), given_again=sum(given.values()) - len(given), leases_at_the_end=len(leases()))


run_to_the_end(run)
