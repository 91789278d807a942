"""Amazon's KCL 3 on a stream that splits and merges: once by polling and once by enhanced fan-out, at the same time.

    python kcl.py JAVA DIRECTORY KILLS COMMAND...

The command runs a server, which is killed so many times while the KCL works. moto stands in for DynamoDB. In the end, each application
has been given each record, and the records of each shard in their order; and it begins a child after all its parents have ended.
"""

import collections
import glob
import json
import os
import signal
import subprocess
import sys
import time

import amazon_kclpy
from common import Server, client, finish, free_port, until, until_active

JAVA, DIRECTORY, KILLS = sys.argv[1], sys.argv[2], int(sys.argv[3])
STREAM = "clicks"
SECONDS_MAX = 85
deadline = time.monotonic() + SECONDS_MAX
HERE = os.path.dirname(os.path.abspath(__file__))
SHARDS = [f"shardId-{number:012}" for number in range(5)]
# The first shard is split, and the upper child is merged with the second shard.
PARENTS = {
    SHARDS[0]: [], SHARDS[1]: [], SHARDS[2]: [SHARDS[0]], SHARDS[3]: [SHARDS[0]], SHARDS[4]: [SHARDS[3], SHARDS[1]],
}
LOGGING = """<configuration><appender name="C" class="ch.qos.logback.core.ConsoleAppender"><encoder>
<pattern>%d{HH:mm:ss.SSS} %-5level %logger{0} %msg%n</pattern></encoder></appender>
<root level="INFO"><appender-ref ref="C"/></root></configuration>"""


class Program:
    """A program that runs beside this one, with its children, and its log."""

    def __init__(self, name, command, **environment):
        self.log = os.path.join(DIRECTORY, name + ".log")
        environment = {
            **os.environ, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1",
            "PYTHONDONTWRITEBYTECODE": "1", **environment,
        }
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        programs.append(self)

    def end(self):
        # Its children are in the group of this process, and in no other.
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


class Application(Program):
    """The KCL with one way to get records."""

    def __init__(self, mode, kinesis_url, dynamodb_url):
        self.mode = mode
        self.out = os.path.join(DIRECTORY, f"{mode}.jsonl")
        open(self.out, "w").close()
        place = os.path.join(DIRECTORY, mode)
        os.mkdir(place)
        properties = {
            "executableName": f"{sys.executable} {os.path.join(HERE, 'kcl_processor.py')}",
            "streamName": STREAM,
            "applicationName": f"app-{mode.lower()}",
            "workerIdentifier": "worker",
            "AwsCredentialsProvider": "DefaultCredentialsProvider",
            "processingLanguage": "python/3",
            "initialPositionInStream": "TRIM_HORIZON",
            "regionName": "us-east-1",
            "kinesisEndpoint": kinesis_url,
            "dynamoDBEndpoint": dynamodb_url,
            "cloudWatchEndpoint": dynamodb_url,
            "metricsLevel": "NONE",
            "clientVersionConfig": "CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X",
            "retrievalMode": mode,
            "idleTimeBetweenReadsInMillis": 250,
            "failoverTimeMillis": 4_000,
            "shardSyncIntervalMillis": 1_500,
            "parentShardPollIntervalMillis": 1_000,
            "leaseCleanupConfig.leaseCleanupIntervalMillis": 2_000,
        }
        with open(os.path.join(place, "kcl.properties"), "w") as file:
            file.writelines(f"{name} = {value}\n" for name, value in properties.items())
        with open(os.path.join(place, "logback.xml"), "w") as file:
            file.write(LOGGING)
        jars = glob.glob(os.path.join(os.path.dirname(amazon_kclpy.__file__), "jars", "*.jar"))
        # A short life: it need not be compiled well.
        options = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        command = [
            JAVA, *options, "-cp", ":".join([place, *jars]), f"-Dlogback.configurationFile={place}/logback.xml",
            "software.amazon.kinesis.multilang.MultiLangDaemon", "--properties-file", f"{place}/kcl.properties",
        ]
        super().__init__(mode, command, KCL_OUT=self.out)

    def events(self):
        with open(self.out) as file:
            return [json.loads(line) for line in file if line.endswith("\n")]

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
            # It goes on behind the last checkpoint.
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
    dynamodb_port = free_port()
    dynamodb = f"http://127.0.0.1:{dynamodb_port}"
    Program("moto", [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(dynamodb_port)])
    with Server(sys.argv[4:], os.path.join(DIRECTORY, "streams")) as server:
        kinesis = client(server.url, attempts=10)
        kinesis.create_stream(StreamName=STREAM, ShardCount=2)
        until_active(kinesis, STREAM)
        # The places of each record, of which there are two if the client has tried again.
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
        # Records may be there more than once, if a put was answered by the kill and tried again.
        for shard in SHARDS:
            iterator = kinesis.get_shard_iterator(StreamName=STREAM, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
            for record in kinesis.get_records(ShardIterator=iterator["ShardIterator"])["Records"]:
                put[record["Data"].decode()].add((shard, record["SequenceNumber"]))
        repeated = [check(application, put) for application in applications]
        finish(kills=KILLS, records=len(put), shards=len(SHARDS), records_given_again=sum(repeated))


programs = []
try:
    run()
except BaseException:
    for program in programs:
        with open(program.log) as log:
            print(f"--- the end of {program.log}\n" + log.read()[-6_000:])
    raise
finally:
    for program in programs:
        program.end()
