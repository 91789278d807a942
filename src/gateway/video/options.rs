//! What the operator of a gateway says of video streams.

use crate::gateway::Gateway;

impl Gateway {
    /// Sets how many video streams there may be. Default: 10,000, as in Kinesis.
    pub fn video_streams_max(mut self, count: usize) -> Self {
        self.video.streams_max = count;
        self
    }

    /// Sets how many connections may send and receive video at the same time: calls of `PutMedia`, `GetMedia` and
    /// `GetMediaForFragmentList`, each of which has a thread. Players of HLS and DASH do not count. Default: 256.
    pub fn video_connections_max(mut self, count: usize) -> Self {
        self.video.connections_max = count;
        self
    }

    /// Sets how large the segments of the log of each video stream are. No fragment can have more than half of that. Default: 256 MiB,
    /// which has room for fragments of any size that Kinesis takes.
    pub fn video_segment_bytes(mut self, bytes: u64) -> Self {
        self.video.segment_bytes = bytes;
        self
    }
}
