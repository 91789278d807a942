"""Starts a Kinesis server for a test or a script, and stops it.

    with Gateway() as gateway:
        kinesis = gateway.client()
        kinesis.create_stream(StreamName="clicks", ShardCount=1)
"""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import boto3

# In memory if possible: the files of a test need not survive anything.
MEMORY = next((place for place in ["/dev/shm"] if os.access(place, os.W_OK)), None)
HERE = pathlib.Path(__file__).resolve().parent
BUILT = HERE.parent.parent / "target/release/examples/kinesis_server"


class Gateway:
    """A server on a free port, whose streams are gone when it is closed."""

    def __init__(self, *flags, directory=None):
        self.flags = flags or ("--no-auth", "--delay-ms", "0")
        self.directory = directory
        self.temporary = None
        self.process = None
        self.url = None

    def __enter__(self):
        server = os.environ.get("KINESIS_SERVER") or shutil.which("kinesis_server") or str(BUILT)
        if not os.path.exists(server):
            raise FileNotFoundError(
                f"{server} is not there: run `cargo build --release --features gateway --example kinesis_server`"
            )
        if self.directory is None:
            self.temporary = tempfile.TemporaryDirectory(dir=MEMORY)
            self.directory = self.temporary.name
        command = [server, "--dir", self.directory, "--port", "0", *self.flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        # Its first line prints the address that it listens on.
        line = self.process.stdout.readline()
        found = re.search(r"https?://[\d.:]+", line)
        if not found:
            raise RuntimeError(f"the server did not start: {line}")
        self.url = found.group()
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=30)
        self.process.stdout.close()
        if self.temporary:
            self.temporary.cleanup()

    def client(self, key="test", secret="test", service="kinesis"):
        """Returns a client of the server. Without authentication, any key will do."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
        )
