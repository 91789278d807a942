"""4. An efficient producer: threads, batches, aggregation.

A request costs the same for one record as for hundreds, so a producer collects. This one has a thread that sends a batch when it is full or
when its oldest record has waited long enough. The Kinesis Producer Library also packs many small records into one (aggregation): a shard
takes 1,000 records a second, and an aggregate counts as one.
"""

import base64
import queue
import threading
import time

import aws_kinesis_agg.aggregator
import aws_kinesis_agg.deaggregator

import course

kinesis = course.client()


class Producer:
    """Puts records in batches, in the background."""

    def __init__(self, name, batch=500, linger=0.05):
        self.name, self.batch, self.linger = name, batch, linger
        self.waiting = queue.Queue(maxsize=10 * batch)  # A full queue blocks the caller: memory is bounded.
        self.requests = 0
        self.thread = threading.Thread(target=self.send)
        self.thread.start()

    def put(self, key, data):
        self.waiting.put({"PartitionKey": key, "Data": data})

    def close(self):
        self.waiting.put(None)
        self.thread.join()

    def send(self):
        is_open = True
        while is_open:
            batch, due = [], None
            while len(batch) < self.batch:
                try:
                    record = self.waiting.get(timeout=None if due is None else max(0, due - time.monotonic()))
                except queue.Empty:
                    break
                if record is None:
                    is_open = False
                    break
                batch.append(record)
                due = due or time.monotonic() + self.linger
            while batch:
                answer = kinesis.put_records(StreamName=self.name, Records=batch)
                self.requests += 1
                batch = [record for record, outcome in zip(batch, answer["Records"]) if "ErrorCode" in outcome]
                if batch:
                    time.sleep(0.1)


COUNT = 1_500

with course.stream(kinesis, shards=4) as name:
    began = time.monotonic()
    producer = Producer(name)
    threads = [
        threading.Thread(target=lambda part=part: [producer.put(f"user-{at}", b"click %d" % at) for at in range(part, COUNT, 4)])
        for part in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    producer.close()
    took = time.monotonic() - began
    print(f"{COUNT} records by {len(threads)} threads in {producer.requests} requests, {COUNT / took:,.0f} a second")
    assert len(course.read_all(kinesis, name)) == COUNT

with course.stream(kinesis) as name:
    aggregator = aws_kinesis_agg.aggregator.RecordAggregator()
    containers = [aggregator.add_user_record(f"user-{at}", f"click {at}".encode()) for at in range(COUNT)]
    containers.append(aggregator.clear_and_get())
    for container in filter(None, containers):
        key, explicit, data = container.get_contents()
        kinesis.put_record(StreamName=name, PartitionKey=key, Data=data)
    stored = course.read_all(kinesis, name)
    # The reader unpacks the aggregates. The Kinesis Client Library does so automatically.
    events = [{"kinesis": {
        "data": base64.b64encode(record["Data"]).decode(), "partitionKey": record["PartitionKey"],
        "sequenceNumber": record["SequenceNumber"], "approximateArrivalTimestamp": 0, "kinesisSchemaVersion": "1.0",
    }} for record in stored]
    users = list(aws_kinesis_agg.deaggregator.iter_deaggregate_records(events))
    print(f"{len(users)} records of users in {len(stored)} records of the stream")
    assert len(users) == COUNT and len(stored) < 10

print("ok")
