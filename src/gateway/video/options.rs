//! The settings of a gateway for video streams.

use crate::gateway::Gateway;

impl Gateway {
    /// Sets the maximum number of video streams. Default: 10,000, as in Kinesis.
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

    /// Sets the segment size of each video stream's log. A fragment can have at most half of it. Default: 256 MiB, which has room for all
    /// fragments that Kinesis accepts.
    pub fn video_segment_bytes(mut self, bytes: u64) -> Self {
        self.video.segment_bytes = bytes;
        self
    }
}
