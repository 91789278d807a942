//! A fragment of a video stream, and its metadata in lists.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::Timestamp;
use crate::video::error::VideoError;
use crate::video::media::Media;
use crate::video::number::FragmentNumber;

/// A fragment's metadata, available without reading the fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct FragmentInfo {
    /// Its number.
    pub number: FragmentNumber,
    /// The time of its first frame by the producer's clock.
    pub producer_time: Timestamp,
    /// When it arrived, by the clock of the stream. It never decreases from one number to the next.
    pub server_time: Timestamp,
    /// How long it plays.
    pub length: Duration,
    /// Its size as Matroska, in bytes.
    pub bytes: u64,
    /// Equal for fragments whose tracks have the same numbers, codecs and parameters, so a decoder that was set up for one can decode the others.
    /// The number has no other meaning.
    pub setup: u32,
}

impl FragmentInfo {
    /// Returns the producer's time at which it ends.
    pub fn producer_end(&self) -> Timestamp {
        self.producer_time + self.length
    }
}

/// A fragment: a complete Matroska file with one cluster. Cloning it is cheap, and its bytes are not copied from the log.
#[derive(Clone)]
pub struct Fragment {
    pub(super) info: FragmentInfo,
    pub(super) data: Bytes,
    /// Where the cluster begins.
    pub(super) cluster_at: usize,
}

impl Fragment {
    /// Returns its metadata.
    pub fn info(&self) -> FragmentInfo {
        self.info
    }

    /// Returns it as a Matroska file: an EBML header, a segment of unknown size with the producer's information, tracks and tags, and one cluster.
    pub fn matroska(&self) -> &[u8] {
        &self.data
    }

    /// Parses its tracks, frames and tags.
    ///
    /// # Errors
    /// Same as [`Media::parse`].
    pub fn media(&self) -> Result<Media<'_>, VideoError> {
        Media::parse(&self.data)
    }

    /// Returns the bytes of [`matroska`](Self::matroska) as a buffer that can be shared and sliced without a copy.
    pub fn into_bytes(self) -> Bytes {
        self.data
    }

    /// Returns the file in two parts: the part before its cluster, and its cluster.
    pub fn parts(&self) -> (Bytes, Bytes) {
        (self.data.slice(..self.cluster_at), self.data.slice(self.cluster_at..))
    }
}

impl fmt::Debug for Fragment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fragment").field("info", &self.info).finish_non_exhaustive()
    }
}
