//! Compression of whole objects, so that the usual tools read them.

use std::io::{self, Write};

use flate2::write::{DeflateEncoder, GzEncoder};
use serde::{Deserialize, Serialize};

/// How objects are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CompressionFormat {
    /// No compression.
    #[default]
    Uncompressed,
    /// GZIP, as `gunzip` reads it.
    Gzip,
    /// A ZIP archive with one file, as `unzip` reads it.
    Zip,
    /// Snappy's framing format.
    Snappy,
    /// Blocks of Snappy with their lengths, as Hadoop reads them.
    HadoopSnappy,
    /// The whole object as one block of Snappy, without a frame and without a checksum: the format of the functions `compress` and `uncompress` in
    /// Snappy's libraries. Names end with `.snappy`, too.
    RawSnappy,
    /// Zstandard at level 3, as `zstd -d` reads it.
    #[cfg(feature = "zstd")]
    Zstd,
}

impl CompressionFormat {
    /// Returns the extension of object names, with the dot.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Uncompressed => "",
            Self::Gzip => ".gz",
            Self::Zip => ".zip",
            Self::Snappy | Self::RawSnappy => ".snappy",
            Self::HadoopSnappy => ".hsnappy",
            #[cfg(feature = "zstd")]
            Self::Zstd => ".zst",
        }
    }

    /// Compresses an object. The same bytes give the same bytes. `name` is the name of the file in a ZIP archive.
    pub(super) fn compress(self, bytes: &[u8], name: &str) -> io::Result<Vec<u8>> {
        match self {
            Self::Uncompressed => Ok(bytes.to_vec()),
            Self::Gzip => gzip(bytes),
            Self::Zip => zip(bytes, name),
            Self::Snappy => {
                let mut encoder = snap::write::FrameEncoder::new(vec![]);
                encoder.write_all(bytes)?;
                encoder.into_inner().map_err(|error| io::Error::other(error.to_string()))
            }
            Self::HadoopSnappy => hadoop_snappy(bytes),
            Self::RawSnappy => snap::raw::Encoder::new().compress_vec(bytes).map_err(io::Error::other),
            #[cfg(feature = "zstd")]
            Self::Zstd => zstd::encode_all(bytes, 3),
        }
    }
}

/// Compresses as `gzip` does, without a name and without a time.
pub(super) fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(vec![], flate2::Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// The default size of Hadoop's compression blocks, in bytes.
const HADOOP_BLOCK_BYTES: usize = 256 << 10;

/// Each block is its length, the length of its only chunk, and the chunk; lengths are big-endian numbers of four bytes.
fn hadoop_snappy(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut to = vec![];
    for block in bytes.chunks(HADOOP_BLOCK_BYTES) {
        let chunk = snap::raw::Encoder::new().compress_vec(block).map_err(io::Error::other)?;
        to.extend_from_slice(&(block.len() as u32).to_be_bytes());
        to.extend_from_slice(&(chunk.len() as u32).to_be_bytes());
        to.extend_from_slice(&chunk);
    }
    Ok(to)
}

/// A ZIP archive with one file: its local header, the file, the directory, and the end of the directory. The time is the earliest that ZIP
/// has, so that the same file gives the same archive.
fn zip(bytes: &[u8], name: &str) -> io::Result<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(vec![], flate2::Compression::default());
    encoder.write_all(bytes)?;
    let packed = encoder.finish()?;
    let name = name.rsplit('/').next().unwrap_or(name);
    let too_large = |_| io::Error::other("more than 4 GiB do not fit into a ZIP archive");
    let (packed_len, len) =
        (u32::try_from(packed.len()).map_err(too_large)?, u32::try_from(bytes.len()).map_err(too_large)?);
    // Version 2.0, names in UTF-8, deflated, 1980-01-01 00:00.
    let mut common = vec![];
    for word in [20u16, 1 << 11, 8, 0, 0x21] {
        push_u16(&mut common, word);
    }
    for number in [crc32fast::hash(bytes), packed_len, len] {
        push_u32(&mut common, number);
    }
    push_u16(&mut common, name.len() as u16);
    push_u16(&mut common, 0);

    let mut archive = b"PK\x03\x04".to_vec();
    archive.extend_from_slice(&common);
    archive.extend_from_slice(name.as_bytes());
    archive.extend_from_slice(&packed);
    let directory_at = archive.len();
    archive.extend_from_slice(b"PK\x01\x02\x14\x03");
    archive.extend_from_slice(&common);
    // No comment, the first disk, no text, the rights of a file, at the beginning.
    push_u16(&mut archive, 0);
    push_u16(&mut archive, 0);
    push_u16(&mut archive, 0);
    push_u32(&mut archive, 0o100_644 << 16);
    push_u32(&mut archive, 0);
    archive.extend_from_slice(name.as_bytes());
    let directory_len = archive.len() - directory_at;
    archive.extend_from_slice(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    push_u32(&mut archive, directory_len as u32);
    push_u32(&mut archive, u32::try_from(directory_at).map_err(too_large)?);
    push_u16(&mut archive, 0);
    Ok(archive)
}

fn push_u16(to: &mut Vec<u8>, number: u16) {
    to.extend_from_slice(&[number as u8, (number >> 8) as u8]);
}

fn push_u32(to: &mut Vec<u8>, number: u32) {
    push_u16(to, number as u16);
    push_u16(to, (number >> 16) as u16);
}
