"""Measures this server beside kinesalite and moto, as stand-ins for Kinesis in tests: how soon the first put is answered, and how long a thousand tests
with a stream each take.

    python compare.py 1000        # kinesalite needs `npm install kinesalite` here, moto `pip install 'moto[server]'`
"""

import importlib.util
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import boto3
import botocore.config

from gateway import BUILT, HERE, MEMORY

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
KINESALITE = HERE / "node_modules/.bin/kinesalite"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def servers(port, directory):
    """Yields each stand-in that is installed, with the command that starts it."""
    yield "this server", [str(BUILT), "--dir", directory, "--port", str(port), "--no-auth", "--delay-ms", "0"]
    if KINESALITE.exists():
        quick = ["--createStreamMs", "0", "--deleteStreamMs", "0", "--updateStreamMs", "0", "--shardLimit", "10000"]
        yield "kinesalite", [str(KINESALITE), "--port", str(port), *quick]
    if importlib.util.find_spec("moto"):
        yield "moto", [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]


def client(port):
    settings = botocore.config.Config(retries={"max_attempts": 0}, connect_timeout=1)
    return boto3.client(
        "kinesis", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
        aws_access_key_id="test", aws_secret_access_key="test", config=settings,
    )


def create(kinesis, name):
    kinesis.create_stream(StreamName=name, ShardCount=1)
    while kinesis.describe_stream(StreamName=name)["StreamDescription"]["StreamStatus"] != "ACTIVE":
        time.sleep(0.001)


def test(kinesis, name):
    """What a test does: a stream of its own, a record in, a record out."""
    create(kinesis, name)
    put = kinesis.put_record(StreamName=name, PartitionKey="a", Data=b"hello")
    iterator = kinesis.get_shard_iterator(StreamName=name, ShardId=put["ShardId"], ShardIteratorType="TRIM_HORIZON")
    assert kinesis.get_records(ShardIterator=iterator["ShardIterator"])["Records"][0]["Data"] == b"hello"
    kinesis.delete_stream(StreamName=name)


with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
    port = free_port()
    kinesis = client(port)
    for name, command in servers(port, directory):
        if not shutil.which(command[0]):
            continue
        began = time.monotonic()
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while True:
                try:
                    create(kinesis, "first")
                    break
                except Exception:
                    if time.monotonic() - began > 60:
                        raise
                    time.sleep(0.002)
            kinesis.put_record(StreamName="first", PartitionKey="a", Data=b"hello")
            first = time.monotonic() - began
            began = time.monotonic()
            for at in range(COUNT):
                test(kinesis, f"stream-{at}")
            all_tests = time.monotonic() - began
            print(f"{name:12} first put answered after {first * 1_000:6.0f} ms, {COUNT} tests in {all_tests:6.1f} s", flush=True)
        finally:
            server.terminate()
            server.wait()
