"""Measures what one thread of boto3 reaches on the gateway, on a server of constants, on kinesalite and on moto, in alternating rounds.

    cargo build --release --features gateway --example kinesis_server && cargo build --release -p gateway_bench
    python benches/gateway/clients.py [rounds]

kinesalite and moto are measured if `target/node` has the one and this Python the other; `.ci/run` installs both.
"""

import importlib.util
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import boto3

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
SECONDS = 2
RECORDS = [{"PartitionKey": str(at), "Data": os.urandom(1_024)} for at in range(500)]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def servers(directory):
    release = ROOT / "target/release"
    yield "constant", lambda port: [str(release / "gateway_bench"), "canned", "--port", port]
    yield "gateway", lambda port: [
        str(release / "examples/kinesis_server"), "--dir", directory, "--port", port, "--no-auth", "--delay-ms", "0"
    ]
    kinesalite = ROOT / "target/node/node_modules/kinesalite/cli.js"
    if kinesalite.exists():
        yield "kinesalite", lambda port: ["node", str(kinesalite), "--port", port, "--createStreamMs", "0"]
    if importlib.util.find_spec("moto"):
        yield "moto", lambda port: [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port]


def start(name, command):
    port = free_port()
    process = subprocess.Popen(command(str(port)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    kinesis = boto3.client(
        "kinesis", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
        aws_access_key_id="test", aws_secret_access_key="test",
    )
    while socket.socket().connect_ex(("127.0.0.1", port)):
        time.sleep(0.05)
    if name != "constant":
        kinesis.create_stream(StreamName="bench", ShardCount=1)
        while kinesis.describe_stream(StreamName="bench")["StreamDescription"]["StreamStatus"] != "ACTIVE":
            time.sleep(0.05)
        for _ in range(10):
            kinesis.put_records(StreamName="bench", Records=RECORDS)
    return process, kinesis


def rate(work):
    began, count = time.monotonic(), 0
    while time.monotonic() - began < SECONDS:
        count += work()
    return count / (time.monotonic() - began)


def put(kinesis):
    return len(kinesis.put_records(StreamName="bench", Records=RECORDS)["Records"])


def get(kinesis):
    iterator = kinesis.get_shard_iterator(
        StreamName="bench", ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    return len(kinesis.get_records(ShardIterator=iterator, Limit=5_000)["Records"])


with tempfile.TemporaryDirectory() as directory:
    running = {name: start(name, command) for name, command in servers(directory)}
    try:
        for what, work in [("GetRecords of 5,000", get), ("PutRecords of 500", put)]:
            rates = {name: [] for name in running}
            for at in range(ROUNDS):
                for name in list(running)[:: 1 if at % 2 else -1]:
                    kinesis = running[name][1]
                    rates[name].append(rate(lambda: work(kinesis)))
            for name, found in rates.items():
                parts = [of / base for of, base in zip(found, rates["constant"])]
                print(
                    f"{what} records of 1 KiB, {name:10} {statistics.median(found):8,.0f} records/s, "
                    f"{statistics.median(parts):.2f} of constant answers", flush=True
                )
    finally:
        for process, _ in running.values():
            process.terminate()
            process.wait()
