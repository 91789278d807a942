"""The same calls to kinesalite and to the gateway in its profile of 2018, and the same answers.

    python differential.py URL KINESALITE

The calls are chosen at random, valid and invalid ones, for all operations that both have. What differs by nature (sequence numbers,
iterators, times) is replaced before answers are compared. What differs for another reason is listed in `known`, with the reason;
everything else fails. URL is the gateway's; KINESALITE is the program `cli.js`, which this script runs.
STREAMLOG_CALLS and STREAMLOG_SEED say how many calls, and which.
"""

import base64
import json
import os
import random
import re
import subprocess
import sys
import time

from common import Raw, finish, free_port, until

GATEWAY, PROGRAM = sys.argv[1:]
CALLS = int(os.environ.get("STREAMLOG_CALLS", 2_500))
SEED = int(os.environ.get("STREAMLOG_SEED", 20181107))
SHARDS_MAX = 60
HASH_KEYS = 2**128
dice = random.Random(SEED)
chance = lambda part: dice.random() < part


class Pair:
    """A value that each server has its own of, such as an iterator."""

    def __init__(self, ours, theirs):
        self.sides = (ours, theirs)


class Stream:
    """What this script knows of a stream that both have."""

    def __init__(self, name):
        self.name, self.shards, self.numbers, self.iterators = name, [], [], []


def side(value, which):
    """Returns the value of an argument for one of the servers."""
    if isinstance(value, Pair):
        return value.sides[which]
    if isinstance(value, dict):
        return {name: side(member, which) for name, member in value.items()}
    if isinstance(value, list):
        return [side(item, which) for item in value]
    return value


def parts(number):
    """Returns what a sequence number says of its shard: index and version. The other parts are times and counts."""
    digits = f"{int(number):047x}"
    return "number", int(digits[38:46], 16), digits[46], int(digits[11:27], 16) == 2**63 - 1


def plain(value, path=""):
    """Replaces what differs by nature."""
    if isinstance(value, dict):
        return {name: plain(member, f"{path}.{name}") for name, member in value.items()}
    if isinstance(value, list):
        return [plain(item, path) for item in value]
    name = path.rsplit(".", 1)[-1]
    if name.endswith("SequenceNumber") and re.fullmatch(r"\d{56}", str(value)):
        return parts(value)
    if name.endswith("ShardIterator") and isinstance(value, str):
        return "iterator"
    if name.endswith("Timestamp") and isinstance(value, (int, float)):
        return "time"
    if name == "MillisBehindLatest":
        return "behind" if value else 0
    if name in ("message", "Message"):
        value = re.sub(r"\d{56}", "NUMBER", value)
        value = re.sub(r"timestampInMillis: \d+", "timestampInMillis: TIME", value)
        value = re.sub(r"currentTimestampInMillis: \d+", "currentTimestampInMillis: TIME", value)
    return value


class World:
    """Both servers, and what was done to them."""

    def __init__(self, theirs):
        self.servers = (Raw(GATEWAY), Raw(theirs))
        self.streams, self.count, self.next = {}, 0, 0
        self.codes, self.accepted, self.differences = {}, {}, {}

    def both(self, operation, body):
        return [server.call(operation, side(body, which)) for which, server in enumerate(self.servers)]

    def call(self, operation, body):
        """Makes a call to both, compares the answers, and returns both bodies."""
        self.count += 1
        answers = self.both(operation, body)
        (our_status, ours), (their_status, theirs) = answers
        code = (ours or {}).get("__type", "ok")
        self.codes.setdefault(operation, set()).add(code)
        ours, theirs = known(operation, body, (our_status, plain(ours)), (their_status, plain(theirs)), self.differences)
        assert ours == theirs, (
            f"call {self.count} of seed {SEED}: {operation} {json.dumps(side(body, 0))[:2_000]}\n"
            f"  gateway:    {ours}\n  kinesalite: {theirs}"
        )
        return [body for _, body in answers] if our_status == 200 else None

    def settle(self, stream):
        """Waits until a stream is ACTIVE at both, and learns its shards."""

        def shards():
            answers = self.both("DescribeStream", {"StreamName": stream.name})
            descriptions = [answer["StreamDescription"] for _, answer in answers]
            if all(description["StreamStatus"] == "ACTIVE" for description in descriptions):
                return [description["Shards"] for description in descriptions]

        ours, theirs = until(shards, f"{stream.name} is ACTIVE")
        assert plain(ours) == plain(theirs), (ours, theirs)
        stream.shards = ours
        for our, their in zip(ours, theirs):
            # In kinesalite, the first record of a child may have the child's starting number.
            if "ParentShardId" not in our:
                starts = [shard["SequenceNumberRange"]["StartingSequenceNumber"] for shard in (our, their)]
                stream.numbers.append((our["ShardId"], Pair(*starts)))

    def learn(self):
        """Learns which streams there are."""
        names = [set(answer["StreamNames"]) for _, answer in self.both("ListStreams", {"Limit": 1_000})]
        assert names[0] == names[1], names[0] ^ names[1]
        for name in names[0] - set(self.streams):
            self.streams[name] = Stream(name)
            self.settle(self.streams[name])
        self.streams = {name: stream for name, stream in self.streams.items() if name in names[0]}


def known(operation, body, ours, theirs, seen):
    """Takes away the differences that are known. Each is counted in `seen`, so that the list has none that is not there any more."""

    def difference(reason):
        seen[reason] = seen.get(reason, 0) + 1

    (our_status, our), (their_status, their) = ours, theirs
    ok = our_status == their_status == 200
    if operation == "GetRecords" and ok:
        our = dict(our)
        their = dict(their)
        if our.pop("ChildShards", None):
            difference("kinesalite has no ChildShards")
        if "NextShardIterator" not in our and "NextShardIterator" in their:
            difference("a closed shard ends with its last records, and in kinesalite with an empty answer after them")
            del their["NextShardIterator"]
        if our["MillisBehindLatest"] != their["MillisBehindLatest"]:
            difference("kinesalite says how far behind only at the end of a closed shard, where a reader is not behind")
            our["MillisBehindLatest"] = their["MillisBehindLatest"]
    if operation == "DescribeStream" and ok and body.keys() & {"Limit", "ExclusiveStartShardId"}:
        our, their = ({**answer["StreamDescription"]} for answer in (our, their))
        our_shards, has_more = our.pop("Shards"), our.pop("HasMoreShards")
        shards, _ = their.pop("Shards"), their.pop("HasMoreShards")
        if our_shards != shards:
            difference("kinesalite answers all shards, whatever was asked for")
            limit = int(body.get("Limit") or 100)
            after = body.get("ExclusiveStartShardId")
            expected = [shard for shard in shards if not after or shard["ShardId"] > full_id(after)]
            assert (our_shards, has_more) == (expected[:limit], len(expected) > limit), (our_shards, has_more, expected)
    if operation == "ListShards" and ok and our.keys() - their.keys() == {"NextToken"}:
        difference("kinesalite answers all shards, whatever was asked for")
        assert len(our["Shards"]) == int(body["MaxResults"])
        our, their = {"Shards": our["Shards"]}, {"Shards": their["Shards"][: len(our["Shards"])]}
    after = body.get("ExclusiveStartShardId") if operation in ("ListShards", "DescribeStream") else None
    if (our_status, their_status) == (400, 200) and after and not full_id(after):
        difference("kinesalite takes ids of shards that cannot be read, in lists of shards")
        return theirs, theirs
    return (our_status, our), (their_status, their)


def full_id(shard):
    """Returns what the service makes of an id; one that cannot be read counts for nothing."""
    number = (shard.split("-") + [""])[1] or shard
    return f"shardId-{int(number):012}" if re.fullmatch(r"\d+", number) and int(number) < 2**31 else ""


# Arguments, valid or not.

NAMES = ["", "a" * 129, "with space", "ünïcode", "nobody"]
WRONG_TYPES = [True, 17, 1.5, "text", [], ["x"], {}, {"a": "b"}]


def some(world):
    """Returns a stream that is there."""
    return dice.choice(list(world.streams.values()))


def wrong(body):
    """Makes something wrong with a request now and then: a member is missing, null, or of another type."""
    if body and chance(0.12):
        name = dice.choice(list(body))
        what = dice.randrange(3)
        if what == 0:
            del body[name]
        elif what == 1:
            body[name] = None
        else:
            body[name] = dice.choice(WRONG_TYPES)
    if chance(0.05):
        body["StreamName"] = dice.choice(NAMES)
    if chance(0.03):
        body["Unknown"] = dice.choice(WRONG_TYPES)
    return body


def key():
    return dice.choice(["a", "b", "pk-1", "ünïcode", "x" * 256, str(dice.random())] if chance(0.95) else ["", "x" * 257])


def hash_key():
    # kinesalite takes "01" and "-1", because it puts `^` and `$` around a pattern with `|`.
    odd = ["-", "1x", "x", "", str(HASH_KEYS), "9" * 39]
    return str(dice.randrange(HASH_KEYS)) if chance(0.8) else dice.choice(odd)


def data():
    odd = ["a", "ab*d", "=bcd", "ABC=", "ab=d", "====", "é", "a b=", base64.b64encode(bytes(1_048_577)).decode()]
    return base64.b64encode(dice.randbytes(dice.randrange(50))).decode() if chance(0.9) else dice.choice(odd)


def number(stream):
    """A sequence number: one that the stream has given, or another one."""
    odd = ["0", "1", "x", "1x", "9" * 56, "49537279973004700513262647537344055618854783392672628738"]
    if chance(0.2) or not stream.numbers:
        return dice.choice(odd)
    return dice.choice(stream.numbers)[1]


def is_early(text):
    """Returns whether the time in a sequence number has not come yet."""
    return int(f"{int(text):x}"[29:38], 16) > time.time() - 1


def shard_id(stream):
    odd = ["shardId-000000000999", "999", "x", "shardId-2147483648", "shard-0", "0", "shardId--1", "a-1", ""]
    if chance(0.12) or not stream.shards:
        return dice.choice(odd)
    return dice.choice(stream.shards)["ShardId"]


def open_shards(stream):
    shards = [shard for shard in stream.shards if "EndingSequenceNumber" not in shard["SequenceNumberRange"]]
    return sorted(shards, key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))


# The operations.


def create_stream(world):
    name = f"stream-{world.next}" if chance(0.8) else some(world).name
    count = dice.randrange(1, 7) if chance(0.8) else dice.choice([0, -1, 61, 100_000, 100_001, 10**12, 2.7])
    if world.call("CreateStream", wrong({"StreamName": name, "ShardCount": count})) is not None:
        world.next += 1
        world.learn()


def delete_stream(world):
    name = some(world).name if len(world.streams) > 3 and chance(0.7) else dice.choice(NAMES)
    body = wrong({"StreamName": name})
    if world.call("DeleteStream", body) is not None:
        gone = {"StreamName": body["StreamName"]}
        until(lambda: [status for status, _ in world.both("DescribeStream", gone)] == [400, 400], f"{gone} is gone")
        world.learn()


def describe_stream(world):
    stream = some(world)
    body = {"StreamName": stream.name}
    if chance(0.3):
        body["Limit"] = dice.choice([1, 2, 100, 10_000, 0, 10_001])
    if chance(0.3):
        body["ExclusiveStartShardId"] = shard_id(stream)
    world.call("DescribeStream", wrong(body))


def describe_stream_summary(world):
    world.call("DescribeStreamSummary", wrong({"StreamName": some(world).name}))


def list_streams(world):
    body = {}
    if chance(0.5):
        body["Limit"] = dice.choice([1, 2, 5, 10_000, 0, 10_001, -5])
    if chance(0.5):
        body["ExclusiveStartStreamName"] = dice.choice([some(world).name, "stream", "a", "zzz", *NAMES])
    world.call("ListStreams", wrong(body))


def list_shards(world):
    stream = some(world)
    body = {"StreamName": stream.name}
    if chance(0.3):
        body["ExclusiveStartShardId"] = dice.choice(stream.shards)["ShardId"]
    if chance(0.1):
        body["MaxResults"] = dice.choice([0, 10_001, 1_000])
    world.call("ListShards", wrong(body))


def put_record(world):
    stream = some(world)
    body = {"StreamName": stream.name, "PartitionKey": key(), "Data": data()}
    if chance(0.3):
        body["ExplicitHashKey"] = hash_key()
    if chance(0.2):
        ordering = number(stream)
        # A child shard begins a second late, and so do the records that it stores in that second. kinesalite refuses their numbers
        # until then, and so would the next put of a producer that chains its puts.
        if not (isinstance(ordering, Pair) and any(is_early(side) for side in ordering.sides)):
            body["SequenceNumberForOrdering"] = ordering
    answers = world.call("PutRecord", wrong(body))
    if answers:
        target = world.streams[body["StreamName"]]
        target.numbers.append((answers[0]["ShardId"], Pair(*(answer["SequenceNumber"] for answer in answers))))


def put_records(world):
    stream = some(world)

    def entry():
        body = {"PartitionKey": key(), "Data": data()} if chance(0.1) else {"PartitionKey": "a" + str(dice.random()), "Data": "YWI="}
        if chance(0.2):
            body["ExplicitHashKey"] = str(dice.randrange(HASH_KEYS)) if chance(0.95) else hash_key()
        return wrong(body) if chance(0.05) else body

    count = dice.choice([1, 2, 5, 20]) if chance(0.95) else dice.choice([0, 501])
    body = {"StreamName": stream.name, "Records": [entry() for _ in range(count)]}
    answers = world.call("PutRecords", wrong(body))
    if answers:
        target = world.streams[body["StreamName"]]
        for ours, theirs in zip(*(answer["Records"] for answer in answers), strict=True):
            target.numbers.append((ours["ShardId"], Pair(ours["SequenceNumber"], theirs["SequenceNumber"])))


def get_shard_iterator(world):
    stream = some(world)
    kind = dice.choice(["TRIM_HORIZON", "LATEST", "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER", "AT_TIMESTAMP"])
    body = {"StreamName": stream.name, "ShardId": shard_id(stream), "ShardIteratorType": kind}
    if kind == "AT_TIMESTAMP":
        # kinesalite does not answer for a time without a later record.
        if chance(0.7):
            body["Timestamp"] = int(time.time()) + dice.choice([60, 1_000_000])
    elif "SEQUENCE" in kind if chance(0.9) else chance(0.3):
        if chance(0.8) and stream.numbers:
            body["ShardId"], body["StartingSequenceNumber"] = dice.choice(stream.numbers)
        else:
            body["StartingSequenceNumber"] = number(stream)
    if chance(0.03):
        body["ShardIteratorType"] = "NONSENSE"
    body = wrong(body)
    if type(body.get("Timestamp")) in (int, float) and body["Timestamp"] < time.time():
        del body["Timestamp"]
    answers = world.call("GetShardIterator", body)
    if answers:
        iterators = world.streams[body["StreamName"]].iterators
        iterators.append(Pair(*(answer["ShardIterator"] for answer in answers)))
        del iterators[:-20]


def get_records(world):
    stream = some(world)
    odd = ["", "x", "AAAA", "AAAAAAAAAAE=", base64.b64encode(bytes(160)).decode(), "x" * 513]
    iterator = dice.choice(stream.iterators) if stream.iterators and chance(0.9) else dice.choice(odd)
    body = {"ShardIterator": iterator}
    if chance(0.4):
        body["Limit"] = dice.choice([1, 2, 5, 10_000] if chance(0.9) else [0, 10_001, 2.5])
    body = wrong(body)
    body.pop("StreamName", None)
    answers = world.call("GetRecords", body)
    if answers and all("NextShardIterator" in answer for answer in answers):
        stream.iterators.append(Pair(*(answer["NextShardIterator"] for answer in answers)))
        del stream.iterators[:-20]


def of_open_shards(world, body, *names):
    """Returns whether a request names no shard that is closed, which kinesalite splits and merges again."""
    stream = world.streams.get(body.get("StreamName")) if isinstance(body.get("StreamName"), str) else None
    closed = {shard["ShardId"] for shard in stream.shards} - {shard["ShardId"] for shard in open_shards(stream)} if stream else ()
    return not any(full_id(body[name]) in closed for name in names if isinstance(body.get(name), str))


def split_shard(world):
    stream = some(world)
    shard = dice.choice(open_shards(stream))
    start, end = (int(shard["HashKeyRange"][name]) for name in ("StartingHashKey", "EndingHashKey"))
    at = (start + end) // 2 if chance(0.6) else dice.choice([start, start + 1, start + 2, end - 1, end, end + 1])
    body = {"StreamName": stream.name, "ShardToSplit": shard["ShardId"], "NewStartingHashKey": str(at)}
    if chance(0.15):
        body["ShardToSplit"] = dice.choice(["shardId-000000000999", "x", "shardId-2147483648"])
    if chance(0.1):
        body["NewStartingHashKey"] = hash_key()
    body = wrong(body)
    if of_open_shards(world, body, "ShardToSplit") and world.call("SplitShard", body) is not None:
        world.settle(world.streams[body["StreamName"]])


def merge_shards(world):
    stream = some(world)
    shards = open_shards(stream)
    at = dice.randrange(len(shards))
    pair = [shards[at], shards[(at + 1) % len(shards)]]
    if chance(0.2):
        pair.reverse()
    ids = [shard["ShardId"] if chance(0.93) else dice.choice(["shardId-000000000999", "x", ""]) for shard in pair]
    body = wrong({"StreamName": stream.name, "ShardToMerge": ids[0], "AdjacentShardToMerge": ids[1]})
    if of_open_shards(world, body, "ShardToMerge", "AdjacentShardToMerge") and world.call("MergeShards", body) is not None:
        world.settle(world.streams[body["StreamName"]])


def retention(world):
    operation = dice.choice(["IncreaseStreamRetentionPeriod", "DecreaseStreamRetentionPeriod"])
    hours = dice.choice([24, 25, 48, 100, 168, 23, 0, -1, 169, 1])
    body = wrong({"StreamName": some(world).name, "RetentionPeriodHours": hours})
    if world.call(operation, body) is not None:
        world.settle(world.streams[body["StreamName"]])


# Without a colon, which AWS allows and kinesalite does not.
TAGS = ["team", "a", "b", "größe", "with space", "a_b.c/d=e+f-g@h", "%", "a%b", "*", "", "x" * 128, "x" * 129]


def add_tags(world):
    count = dice.randrange(1, 4) if chance(0.9) else dice.choice([0, 11, 10])
    # Those that may be there come first in the list.
    names = TAGS[:6] if chance(0.7) else TAGS
    tags = {dice.choice(names): dice.choice(names) for _ in range(count)}
    if count > 4:
        tags = {f"tag-{dice.randrange(100)}": "x" for _ in range(count)}
    world.call("AddTagsToStream", wrong({"StreamName": some(world).name, "Tags": tags}))


def remove_tags(world):
    names = [dice.choice(TAGS[:6] if chance(0.8) else TAGS) for _ in range(dice.choice([1, 2, 3, 0, 11] if chance(0.2) else [1, 2]))]
    world.call("RemoveTagsFromStream", wrong({"StreamName": some(world).name, "TagKeys": names}))


def list_tags(world):
    body = {"StreamName": some(world).name}
    if chance(0.3):
        body["Limit"] = dice.choice([1, 2, 10, 0, 11])
    if chance(0.3):
        body["ExclusiveStartTagKey"] = dice.choice(TAGS)
    world.call("ListTagsForStream", wrong(body))


OPERATIONS = {
    put_record: 20, put_records: 10, get_shard_iterator: 20, get_records: 25, split_shard: 5, merge_shards: 5,
    describe_stream: 6, describe_stream_summary: 2, list_streams: 5, list_shards: 5, create_stream: 4, delete_stream: 3,
    retention: 4, add_tags: 6, remove_tags: 3, list_tags: 5,
}
# All that kinesalite has.
EXPECTED = {
    "AddTagsToStream", "CreateStream", "DecreaseStreamRetentionPeriod", "DeleteStream", "DescribeStream",
    "DescribeStreamSummary", "GetRecords", "GetShardIterator", "IncreaseStreamRetentionPeriod", "ListShards", "ListStreams",
    "ListTagsForStream", "MergeShards", "PutRecord", "PutRecords", "RemoveTagsFromStream", "SplitShard",
}


def run(theirs):
    world = World(theirs)
    for count in (1, 3, 6):
        world.call("CreateStream", {"StreamName": f"first-{count}", "ShardCount": count})
        world.learn()
    while world.count < CALLS:
        operation = dice.choices(list(OPERATIONS), list(OPERATIONS.values()))[0]
        operation(world)
    assert set(world.codes) == EXPECTED, set(world.codes) ^ EXPECTED
    never = [operation for operation, codes in world.codes.items() if "ok" not in codes or len(codes) < 2]
    assert not never, f"{never} never worked, or never failed"
    codes = sum(len(codes) for codes in world.codes.values())
    for reason, count in sorted(world.differences.items()):
        print(f"  {count} times: {reason}")
    finish(calls=world.count, operations=len(world.codes), kinds_of_answers=codes)


port = free_port()
options = [f"--{name}StreamMs=0" for name in ("create", "delete", "update")]
kinesalite = subprocess.Popen(
    ["node", PROGRAM, f"--port={port}", f"--shardLimit={SHARDS_MAX}", *options], stdout=subprocess.PIPE, text=True
)
try:
    assert "Listening" in kinesalite.stdout.readline()
    run(f"http://127.0.0.1:{port}")
finally:
    kinesalite.kill()
