"""Queues by boto3, while the server is killed, again and again, and started again on the same directory.

    python queues.py DIRECTORY COMMAND...

The command runs a server. A queue that was created is there after a kill, and begins where it was created. What was acknowledged never
comes again, what is in flight stays hidden, and every record is handed out in the end. Handles from before a kill are good after it.
"""

import os
import random
import sys
import threading
import time

from botocore.exceptions import BotoCoreError, ClientError
from common import ACCOUNT, REGION, Raw, Server, client, finish, until

STREAM = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/jobs"
ROUNDS = int(os.environ.get("STREAMLOG_KILLS", 6))
dice = random.Random(ROUNDS)


def create(kinesis, name, **more):
    """Creates a queue of the stream, and returns its ARN without waiting for it."""
    answer = kinesis.create_queue(QueueName=name, StreamConfigurationList=[{"StreamARN": STREAM}], **more)
    return answer["QueueDescription"]["QueueARN"]


def until_active(kinesis, queue):
    status = lambda: kinesis.describe_queue(QueueARN=queue)["QueueDescription"]["QueueStatus"]
    until(lambda: status() == "ACTIVE", f"{queue} is ACTIVE")


def put(kinesis, data):
    kinesis.put_record(StreamName="jobs", PartitionKey=data, Data=data.encode())


def kill(server):
    server.kill()
    server.start()


def begins_where_it_was_created(server, kinesis):
    """A crash right after the creation, before anybody used the queue."""
    put(kinesis, "before")
    queue = create(kinesis, "fresh", QueueAttributes={"VisibilityTimeoutSeconds": 3})
    put(kinesis, "after")
    kill(server)
    described = kinesis.describe_queue(QueueARN=queue)["QueueDescription"]
    assert described["QueueAttributes"]["VisibilityTimeoutSeconds"] == 3
    until_active(kinesis, queue)
    (record,) = kinesis.receive_queue_records(QueueARN=queue)["QueueRecords"]
    assert (record["Data"], record["ReceiveCount"]) == (b"after", 1)
    kill(server)
    # It stays in flight, and becomes visible when its timeout ends.
    begun = time.monotonic()
    (again,) = kinesis.receive_queue_records(QueueARN=queue, WaitTimeSeconds=20)["QueueRecords"]
    assert (again["RecordId"], again["ReceiveCount"]) == (record["RecordId"], 2)
    assert again["FirstReceiveTimestamp"] == record["FirstReceiveTimestamp"]
    assert time.monotonic() - begun < 15, "it came when it was visible, and not at the end of the wait"
    kill(server)
    entries = [{"ReceiptHandle": record["ReceiptHandle"]}, {"ReceiptHandle": again["ReceiptHandle"]}]
    answer = kinesis.acknowledge_queue_records(QueueARN=queue, Entries=entries)
    assert answer["Successful"] == entries[1:], answer
    assert [entry["ErrorCode"] for entry in answer["Failed"]] == ["ResourceNotFoundException"], answer
    kinesis.delete_queue(QueueARN=queue)
    kill(server)
    try:
        kinesis.describe_queue(QueueARN=queue)
        raise AssertionError("a deleted queue is back")
    except ClientError as error:
        assert error.response["Error"]["Code"] == "ResourceNotFoundException", error


class Worker(threading.Thread):
    """Receives records and acknowledges most of them, until it is told to stop."""

    def __init__(self, url, queue, number):
        super().__init__(daemon=True)
        self.kinesis, self.queue, self.dice = client(url), queue, random.Random(number)
        # Acknowledged records, records with unknown outcome, and records received again although they were acknowledged.
        self.done, self.unknown, self.failure = {}, set(), None

    def run(self):
        try:
            while not stop.is_set():
                try:
                    self.work()
                except BotoCoreError:
                    time.sleep(0.02)
        except BaseException as failure:
            self.failure = failure

    def work(self):
        try:
            records = self.kinesis.receive_queue_records(QueueARN=self.queue, WaitTimeSeconds=1)["QueueRecords"]
        except ClientError as error:
            # A queue that was just started may still be shown as being created.
            raise AssertionError(f"a receive was refused: {error}") from error
        received = time.time()
        for record in records:
            data = record["Data"].decode()
            for worker in workers:
                moment = worker.done.get(data)
                assert moment is None or moment > received, f"{data} was acknowledged, and came again"
        kept = [record for record in records if not record["Data"].startswith(b"poison") and self.dice.random() < 0.9]
        if not kept:
            return
        entries = [{"ReceiptHandle": record["ReceiptHandle"]} for record in kept]
        names = {record["ReceiptHandle"]: record["Data"].decode() for record in kept}
        try:
            answer = self.kinesis.acknowledge_queue_records(QueueARN=self.queue, Entries=entries)
        except BotoCoreError:
            self.unknown.update(names.values())
            raise
        for entry in answer["Successful"]:
            self.done[names[entry["ReceiptHandle"]]] = time.time()
        for entry in answer["Failed"]:
            # It was received again meanwhile: the machine is slow.
            assert entry["ErrorCode"] == "ResourceNotFoundException", entry


stop, workers = threading.Event(), []


def is_worked_off(server, kinesis):
    """Workers on one queue while the server is killed."""
    attributes = {
        "VisibilityTimeoutSeconds": 2, "DeadLetterConfiguration": {"TargetType": "BUILT_IN", "MaxReceiveCount": 20},
    }
    queue = create(kinesis, "work", QueueAttributes=attributes)
    until_active(kinesis, queue)
    workers.extend(Worker(server.url, queue, number) for number in range(3))
    for worker in workers:
        worker.start()
    names = set()
    for number in range(ROUNDS):
        more = [f"{kind} {number} {at}" for at in range(40) for kind in ("job", "poison")[: 1 + (at == 0)]]
        for name in more:
            put(kinesis, name)
        names.update(name for name in more if name.startswith("job"))
        time.sleep(dice.random() * 0.5)
        kill(server)
    handled = lambda: {name for worker in workers for name in worker.done} | {name for worker in workers for name in worker.unknown}
    failures = lambda: "; ".join(str(worker.failure) for worker in workers if worker.failure)
    until(lambda: names <= handled() or failures(), "all records are handled", seconds=60)
    kinesis.update_queue(
        QueueARN=queue, QueueAttributes={"DeadLetterConfiguration": {"TargetType": "BUILT_IN", "MaxReceiveCount": 1}}
    )
    dead = {}

    def all_are_dead():
        for record in kinesis.receive_dead_letter_queue_records(QueueARN=queue, WaitTimeSeconds=1)["QueueRecords"]:
            dead[record["Data"].decode()] = record["ReceiptHandle"]
        return len([name for name in dead if name.startswith("poison")]) == ROUNDS or failures()

    until(all_are_dead, "the records that nobody acknowledges are dead letters", seconds=60)
    stop.set()
    for worker in workers:
        worker.join(30)
    assert not failures(), failures()
    kinesis.delete_queue(QueueARN=queue)
    return len(names)


def who_leaves_takes_nothing(server, kinesis):
    queue = create(kinesis, "left", QueueAttributes={"VisibilityTimeoutSeconds": 300})
    until_active(kinesis, queue)
    for _ in range(5):
        raw = Raw(server.url)
        raw.begin("ReceiveQueueRecords", {"QueueARN": queue, "WaitTimeSeconds": 20})
        time.sleep(0.1)
        raw.connection.close()
    time.sleep(0.3)
    put(kinesis, "here")
    (record,) = kinesis.receive_queue_records(QueueARN=queue, WaitTimeSeconds=5)["QueueRecords"]
    assert (record["Data"], record["ReceiveCount"]) == (b"here", 1)
    kinesis.delete_queue(QueueARN=queue)


with Server(sys.argv[2:], sys.argv[1]) as server:
    kinesis = client(server.url, attempts=5)
    kinesis.create_stream(StreamName="jobs", StreamModeDetails={"StreamMode": "ON_DEMAND"})
    status = lambda: kinesis.describe_stream_summary(StreamName="jobs")["StreamDescriptionSummary"]["StreamStatus"]
    until(lambda: status() == "ACTIVE", "the stream is ACTIVE")
    begins_where_it_was_created(server, kinesis)
    who_leaves_takes_nothing(server, kinesis)
    count = is_worked_off(server, kinesis)
finish(rounds=ROUNDS, records=count)
