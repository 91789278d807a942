"""A record processor of the KCL: writes down what it is given, a line of JSON an event, in the file that KCL_OUT names."""

import json
import os

from amazon_kclpy import kcl
from amazon_kclpy.v3 import processor


def note(event, shard, **more):
    # One write per line, so that lines of other processes do not interleave.
    line = json.dumps({"event": event, "shard": shard, **more}) + "\n"
    file = os.open(os.environ["KCL_OUT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())
    os.close(file)


class Processor(processor.RecordProcessorBase):
    def initialize(self, start):
        self.shard = start.shard_id
        note("init", self.shard)

    def process_records(self, batch):
        for record in batch.records:
            data = record.binary_data.decode()
            note("record", self.shard, number=record.sequence_number, key=record.partition_key, data=data)
        if batch.records:
            last = batch.records[-1]
            batch.checkpointer.checkpoint(last.sequence_number, last.sub_sequence_number)
            note("checkpoint", self.shard, number=last.sequence_number)

    def lease_lost(self, _):
        note("lease lost", self.shard)

    def shard_ended(self, end):
        note("end", self.shard)
        end.checkpointer.checkpoint()

    def shutdown_requested(self, request):
        request.checkpointer.checkpoint()


kcl.KCLProcess(Processor()).run()
