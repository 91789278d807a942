//! Bare limits of writes that survive power loss: one sync for each record.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use memmap2::{MmapMut, MmapOptions};

use super::bare::write_frame_at;
use super::{Contender, Facts, Held, Lanes, Log, Mode, Result, Setup, Writer};

const FILE_BYTES: u64 = 64 << 20;

const fn facts(name: &'static str, config: &'static str) -> Facts {
    Facts {
        name,
        package: None,
        process: None,
        power: Some(Mode { config, survives: "power loss" }),
        checksums: "CRC-32 on writing",
        live_readers: "none",
        writers: "one; several need a mutex, and share no sync",
    }
}

pub fn contenders() -> Vec<Contender> {
    vec![
        Contender {
            facts: facts(
                "bare: pwrite + fdatasync",
                "into the same 64 MiB again and again, which were written and synced before, so that no metadata changes",
            ),
            open: |setup| open(setup, How::Fdatasync),
        },
        Contender {
            facts: facts("bare: pwrite, O_DSYNC", "the same, with a file opened with `O_DSYNC`"),
            open: |setup| open(setup, How::Dsync),
        },
        Contender {
            facts: facts(
                "bare: mapping + msync",
                "the same through a mapping, with `msync` of the pages of the record",
            ),
            open: |setup| open(setup, How::Msync),
        },
    ]
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    Fdatasync,
    Dsync,
    Msync,
}

struct Lane {
    how: How,
    file: File,
    map: Option<MmapMut>,
    frame: Vec<u8>,
    end: u64,
}

struct Synced(Lanes<Lane>);
struct SyncedWriter<'a>(Held<'a, Lane>);

fn open(setup: &Setup, how: How) -> Result<Box<dyn Log>> {
    let lanes = setup.each_lane(|lane| {
        let path = setup.directory.join(format!("lane-{lane}"));
        let mut file = File::create(&path)?;
        let zeros = vec![0; 1 << 20];
        (0..FILE_BYTES >> 20).try_for_each(|_| file.write_all(&zeros))?;
        file.sync_all()?;
        let flags = if how == How::Dsync { rustix::fs::OFlags::DSYNC.bits() as i32 } else { 0 };
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(&path)?;
        // SAFETY: nothing else uses the file, and it keeps its length.
        let map = if how == How::Msync { Some(unsafe { MmapOptions::new().map_mut(&file)? }) } else { None };
        Ok(Lane { how, file, map, frame: vec![], end: 0 })
    })?;
    Ok(Box::new(Synced(Lanes::new(lanes))))
}

impl Log for Synced {
    fn writer(&self, alone: bool) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(SyncedWriter(self.0.hold(alone))))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl Writer for SyncedWriter<'_> {
    fn put(&mut self, lane: usize, record: &[u8]) -> Result<()> {
        self.0.with(lane, |lane| {
            if lane.end + record.len() as u64 + 8 > FILE_BYTES {
                lane.end = 0;
            }
            if let Some(map) = &mut lane.map {
                let start = lane.end as usize;
                map[start..start + 4].copy_from_slice(&(record.len() as u32).to_le_bytes());
                map[start + 4..start + 8].copy_from_slice(&crc32fast::hash(record).to_le_bytes());
                map[start + 8..start + 8 + record.len()].copy_from_slice(record);
                map.flush_range(start, 8 + record.len())?;
                lane.end += 8 + record.len() as u64;
                return Ok(());
            }
            lane.end += write_frame_at(&lane.file, &mut lane.frame, record, lane.end)?;
            if lane.how == How::Fdatasync {
                lane.file.sync_data()?;
            }
            Ok(())
        })
    }
}
