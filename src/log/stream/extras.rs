//! What puts do besides appending: they keep within the limits of the stream, compress and encrypt.

use std::sync::atomic::Ordering;

use super::{Core, Stream};
use crate::log::format::draft::{Draft, DraftBuffer};
use crate::log::format::headers;
use crate::log::keys::Keys;
use crate::log::shard::Shard;
use crate::log::topology::shard_map::ShardMap;
use crate::log::types::compression::Compression;
use crate::log::types::error::{Error, Result};
use crate::log::types::record::{PutRecord, Receipt};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::throughput::Limits;
use crate::log::types::time::Timestamp;

impl Stream {
    /// Returns the limits of each shard.
    ///
    /// ```
    /// # use streamlog::{Limits, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// assert_eq!(stream.limits(), Limits::none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn limits(&self) -> Limits {
        *self.core().topology.context().limits.lock()
    }

    /// Changes the limits on the write and read throughput of each shard, from now on; see [`Limits`]. Like
    /// [`StreamOptions::limits`](crate::StreamOptions::limits) it applies to this opening only.
    ///
    /// A limit that was set before stays used up to the same degree: a shard that has to wait for half a second still has to wait as long
    /// at the new rate.
    ///
    /// ```
    /// # use streamlog::{Error, Limits, StreamOptions};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = StreamOptions::new().limits(Limits::none().write_records_per_second(1)).open(directory.path())?;
    /// stream.put("user-17", "/")?;
    /// assert!(matches!(stream.put("user-17", "/cart"), Err(Error::Throttled { .. })));
    /// stream.set_limits(Limits::none())?;
    /// stream.put("user-17", "/cart")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` for a limit of 0; `Closed`.
    pub fn set_limits(&self, limits: Limits) -> Result<()> {
        limits.check()?;
        let core = self.core();
        // While it is locked, no shard is created with the old limits.
        let _manifest = core.topology.manifest_to_change()?;
        *core.topology.context().limits.lock() = limits;
        core.topology.map().iter().for_each(|shard| shard.set_limits(limits));
        core.has_extras.store(Core::has_extras(*core.codec.read(), limits), Ordering::Relaxed);
        Ok(())
    }
}

/// What is done to the records of a frame before it is appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    /// Nothing.
    Plain,
    Packed {
        compression: Compression,
        is_encrypted: bool,
    },
    /// They are to be encrypted, but nobody has the key.
    Locked,
}

impl Codec {
    pub(super) fn new(compression: Compression, keys: &Keys) -> Self {
        match (compression, keys.is_on()) {
            (Compression::None, false) => Self::Plain,
            // The key is asked for once and not for each put.
            (_, true) if keys.check_can_encrypt().is_err() => Self::Locked,
            (compression, is_encrypted) => Self::Packed { compression, is_encrypted },
        }
    }
}

impl Core {
    /// Makes puts encrypt or not, as the list of keys says now. If the key is unavailable, puts fail: no record is stored unencrypted.
    pub(super) fn apply_keys(&self) -> Result<()> {
        // While it is locked, nobody else changes the keys, the shards or the limits.
        let manifest = self.topology.manifest_to_change()?;
        // First each segment gets what encrypts its frames, then puts ask for that.
        let taken = match self.keys.is_on() {
            true => self.topology.for_each_shard(|shard| shard.take_new_key()),
            false => Ok(()),
        };
        let codec = match &taken {
            Ok(()) => Codec::new(manifest.settings.compression, &self.keys),
            Err(_) => Codec::Locked,
        };
        *self.codec.write() = codec;
        let limits = *self.topology.context().limits.lock();
        self.has_extras.store(Self::has_extras(codec, limits), Ordering::Relaxed);
        taken
    }

    /// Returns whether puts have more to do than to append.
    pub(super) fn has_extras(codec: Codec, limits: Limits) -> bool {
        codec != Codec::Plain || limits.limits_writes()
    }

    /// Appends a frame of one record as far as the limits let it pass, compressed or encrypted if the stream does that.
    #[inline(never)]
    pub(super) fn append_with_extras(
        &self,
        shard: &Shard,
        record: &PutRecord<'_>,
        frame: &mut Draft<'_>,
    ) -> Result<Option<SequenceNumber>> {
        self.pack(frame)?;
        match shard.limits_puts() {
            false => shard.append(frame),
            true => shard.append_limited(frame, bytes_of(record)),
        }
    }

    /// Compresses the records of a frame, and makes room for what encryption adds, if the stream does that.
    fn pack(&self, frame: &mut Draft<'_>) -> Result<()> {
        match *self.codec.read() {
            Codec::Plain => Ok(()),
            Codec::Packed { compression, is_encrypted } => {
                frame.pack(compression, is_encrypted);
                Ok(())
            }
            Codec::Locked => Err(self.keys.locked()),
        }
    }

    /// Puts a batch as far as the limits let it pass.
    #[inline(never)]
    pub(super) fn put_batch_with_extras(
        &self,
        buffer: &mut DraftBuffer,
        records: &[PutRecord<'_>],
        bytes: usize,
        now: Timestamp,
    ) -> Vec<Result<Receipt>> {
        let pack = |frame: &mut Draft<'_>| self.pack(frame);
        let map = self.topology.map();
        if !map.open_at(0).limits_puts() {
            return self.append_batch(buffer, records, bytes, now, pack);
        }
        // Hashed once, for the limits and for appending.
        let hashed: Vec<_> = match map.only_open() {
            Some(_) => vec![],
            None => records.iter().map(|it| it.clone().explicit_hash_key(self.hash_key_of(it))).collect(),
        };
        let records = if hashed.is_empty() { records } else { &hashed };
        let throttled = self.admit(&map, records);
        drop(map);
        if throttled.iter().all(Option::is_none) {
            return self.append_batch(buffer, records, bytes, now, pack);
        }
        let admitted = records.iter().zip(&throttled).filter(|(_, throttled)| throttled.is_none());
        let admitted: Vec<_> = admitted.map(|(record, _)| record.clone()).collect();
        let mut outcomes = self.append_batch(buffer, &admitted, bytes, now, pack).into_iter();
        let outcome = |throttled: Option<Error>| match throttled {
            Some(error) => Err(error),
            None => outcomes.next().expect("there is one for each record that was admitted"),
        };
        throttled.into_iter().map(outcome).collect()
    }

    /// Returns the error for each record that the limits do not let pass now. In each shard, these are the last ones.
    fn admit(&self, map: &ShardMap, records: &[PutRecord<'_>]) -> Vec<Option<Error>> {
        let mut throttled = vec![None; records.len()];
        let place_of = |record| map.only_open().map_or_else(|| map.route(self.hash_key_of(record)), |_| 0);
        let mut routed: Vec<_> = records.iter().map(place_of).zip(0..).collect();
        routed.sort_unstable();
        for part in routed.chunk_by(|a, b| a.0 == b.0) {
            let bytes = part.iter().map(|&(_, at): &(usize, usize)| bytes_of(&records[at]));
            let errors = map.open_at(part[0].0).admit_first(bytes);
            for (&(_, at), error) in part.iter().rev().zip(errors.into_iter().rev()) {
                throttled[at] = Some(error);
            }
        }
        throttled
    }
}

/// Returns the bytes of a record that count: key, data and headers.
fn bytes_of(record: &PutRecord<'_>) -> usize {
    record.partition_key.len() + record.data.len() + headers::bytes_of(record.header_list())
}
