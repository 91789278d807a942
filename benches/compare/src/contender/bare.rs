//! Bare limits without a promise beyond process death: how fast the machine copies records and computes checksums.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use memmap2::{MmapMut, MmapOptions};

use super::{Contender, Facts, Held, Lanes, Log, Mode, Result, Setup, Tally, Writer};

const HEADER_BYTES: usize = 8;
const SEGMENT_BYTES: usize = 64 << 20;
/// The size of a mapping that is written again and again.
const RING_BYTES: usize = 64 << 20;

const fn facts(
    name: &'static str,
    config: &'static str,
    survives: &'static str,
    checksums: &'static str,
) -> Facts {
    Facts {
        name,
        package: None,
        process: Some(Mode { config, survives }),
        power: None,
        checksums,
        live_readers: "none",
        writers: "one; several need a mutex",
    }
}

pub fn contenders() -> Vec<Contender> {
    vec![
        Contender {
            facts: facts(
                "bare: mapping, pre-faulted",
                "copies length, CRC-32 and record into the same 64 MiB of a mapped file again and again, all of it written before",
                "nothing: it overwrites itself",
                "CRC-32 on writing",
            ),
            open: |setup| Ok(Box::new(Mapped::open(setup, Pages::Ring)?)),
        },
        Contender {
            facts: facts(
                "bare: mapping, fresh",
                "the same into one new 64 MiB file after the other, each given its blocks beforehand (`fallocate`); reads go through \
                 the mapping and check",
                "process death",
                "CRC-32, checked on reading",
            ),
            open: |setup| Ok(Box::new(Mapped::open(setup, Pages::Fresh)?)),
        },
        Contender {
            facts: facts(
                "bare: write",
                "one `write` of length, CRC-32 and record each; reads with 256 KiB `read`s, unchecked",
                "process death",
                "CRC-32 on writing",
            ),
            open: |setup| Ok(Box::new(Written::open(setup, 0)?)),
        },
        Contender {
            facts: facts(
                "bare: buffered write",
                "`write`s of 256 KiB from a buffer; reads with 256 KiB `read`s, unchecked",
                "nothing until the buffer is full",
                "CRC-32 on writing",
            ),
            open: |setup| Ok(Box::new(Written::open(setup, 256 << 10)?)),
        },
    ]
}

fn header(record: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&(record.len() as u32).to_le_bytes());
    header[4..].copy_from_slice(&crc32fast::hash(record).to_le_bytes());
    header
}

#[derive(Clone, Copy, PartialEq)]
enum Pages {
    Ring,
    Fresh,
}

/// One lane of frames in mappings.
struct MappedLane {
    directory: PathBuf,
    pages: Pages,
    map: MmapMut,
    end: usize,
    /// Full mappings, kept open as by a reader.
    full: Vec<(MmapMut, usize)>,
}

fn new_segment(path: &std::path::Path, bytes: usize) -> Result<MmapMut> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes as u64)?;
    // SAFETY: nothing else uses the file, and it is not shortened while the mapping lives.
    Ok(unsafe { MmapOptions::new().len(bytes).map_mut(&file)? })
}

impl MappedLane {
    fn open(setup: &Setup, lane: usize, pages: Pages) -> Result<Self> {
        let directory = setup.lane_directory(lane)?;
        let bytes = if pages == Pages::Ring { RING_BYTES } else { SEGMENT_BYTES };
        let mut map = new_segment(&directory.join("0"), bytes)?;
        if pages == Pages::Ring {
            map.fill(1);
        }
        Ok(Self { directory, pages, map, end: 0, full: vec![] })
    }

    #[inline]
    fn put(&mut self, record: &[u8]) -> Result<()> {
        let bytes = HEADER_BYTES + record.len();
        if self.end + bytes > self.map.len() {
            self.roll()?;
        }
        let frame = &mut self.map[self.end..self.end + bytes];
        frame[HEADER_BYTES..].copy_from_slice(record);
        frame[..HEADER_BYTES].copy_from_slice(&header(record));
        self.end += bytes;
        Ok(())
    }

    #[cold]
    fn roll(&mut self) -> Result<()> {
        if self.pages == Pages::Fresh {
            let next = new_segment(&self.directory.join((self.full.len() + 1).to_string()), SEGMENT_BYTES)?;
            self.full.push((std::mem::replace(&mut self.map, next), self.end));
        }
        self.end = 0;
        Ok(())
    }
}

struct Mapped {
    lanes: Lanes<MappedLane>,
    pages: Pages,
}

impl Mapped {
    fn open(setup: &Setup, pages: Pages) -> Result<Self> {
        Ok(Self { lanes: Lanes::new(setup.each_lane(|lane| MappedLane::open(setup, lane, pages))?), pages })
    }
}

struct MappedWriter<'a>(Held<'a, MappedLane>);

impl Log for Mapped {
    fn writer(&self, alone: bool) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(MappedWriter(self.lanes.hold(alone))))
    }

    fn read_all(&self, lane: usize, tally: &mut Tally) -> Result<()> {
        if self.pages == Pages::Ring {
            return super::no_call("it overwrites itself");
        }
        // Two readers run in parallel without the lock: the mappings do not move.
        let (parts, current) = {
            let lane = self.lanes.lock(lane);
            let part = |map: &MmapMut, end: usize| (map.as_ptr() as usize, end);
            let full: Vec<_> = lane.full.iter().map(|(map, end)| part(map, *end)).collect();
            (full, part(&lane.map, lane.end))
        };
        for (start, end) in parts.into_iter().chain([current]) {
            // SAFETY: the mappings live as long as `self`, and nothing writes to them while they are read: no task does both.
            let mut frames = unsafe { std::slice::from_raw_parts(start as *const u8, end) };
            while let Some((header, rest)) = frames.split_first_chunk::<HEADER_BYTES>() {
                let [a, b, c, d, e, f, g, h] = *header;
                let (len, crc) =
                    (u32::from_le_bytes([a, b, c, d]) as usize, u32::from_le_bytes([e, f, g, h]));
                let (record, next) = rest.split_at(len);
                if crc32fast::hash(record) != crc {
                    return Err("a checksum is wrong".into());
                }
                tally.take(record);
                frames = next;
            }
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl Writer for MappedWriter<'_> {
    #[inline]
    fn put(&mut self, lane: usize, record: &[u8]) -> Result<()> {
        self.0.with(lane, |lane| lane.put(record))
    }

    fn put_batch(&mut self, lane: usize, records: &[&[u8]]) -> Result<()> {
        self.0.with(lane, |lane| records.iter().try_for_each(|record| lane.put(record)))
    }
}

/// One lane of frames in a file.
struct WrittenLane {
    file: BufWriter<File>,
    is_buffered: bool,
    frames: Vec<u8>,
}

struct Written {
    lanes: Lanes<WrittenLane>,
    paths: Vec<PathBuf>,
}

impl Written {
    fn open(setup: &Setup, buffer_bytes: usize) -> Result<Self> {
        let paths: Vec<_> =
            (0..setup.lanes).map(|lane| setup.directory.join(format!("lane-{lane}"))).collect();
        let lanes = setup.each_lane(|lane| {
            let file = BufWriter::with_capacity(buffer_bytes, File::create(&paths[lane])?);
            Ok(WrittenLane { file, is_buffered: buffer_bytes > 0, frames: vec![] })
        })?;
        Ok(Self { lanes: Lanes::new(lanes), paths })
    }
}

struct WrittenWriter<'a>(Held<'a, WrittenLane>);

impl Log for Written {
    fn writer(&self, alone: bool) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(WrittenWriter(self.lanes.hold(alone))))
    }

    fn read_all(&self, lane: usize, tally: &mut Tally) -> Result<()> {
        self.lanes.lock(lane).file.flush()?;
        let mut file = File::open(&self.paths[lane])?;
        let mut buffer = vec![0; 256 << 10];
        let mut kept = 0;
        loop {
            let read = file.read(&mut buffer[kept..])?;
            if read == 0 {
                return if kept == 0 { Ok(()) } else { Err("half a record at the end".into()) };
            }
            let mut frames = &buffer[..kept + read];
            while let Some((header, rest)) = frames.split_first_chunk::<HEADER_BYTES>() {
                let len = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
                let Some((record, next)) = rest.split_at_checked(len) else { break };
                tally.take(record);
                frames = next;
            }
            let left = frames.len();
            let from = kept + read - left;
            buffer.copy_within(from..from + left, 0);
            kept = left;
            if kept == buffer.len() {
                buffer.resize(2 * buffer.len(), 0);
            }
        }
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.lanes.into_logs().try_for_each(|mut lane| Ok(lane.file.flush()?))
    }
}

impl WrittenLane {
    #[inline]
    fn buffer(&mut self, record: &[u8]) -> Result<()> {
        self.file.write_all(&header(record))?;
        Ok(self.file.write_all(record)?)
    }

    #[inline]
    fn frame(&mut self, record: &[u8]) {
        self.frames.extend_from_slice(&header(record));
        self.frames.extend_from_slice(record);
    }

    #[inline]
    fn flush(&mut self) -> Result<()> {
        self.file.write_all(&self.frames)?;
        self.frames.clear();
        Ok(())
    }
}

impl Writer for WrittenWriter<'_> {
    #[inline]
    fn put(&mut self, lane: usize, record: &[u8]) -> Result<()> {
        self.0.with(lane, |lane| {
            if lane.is_buffered {
                return lane.buffer(record);
            }
            lane.frame(record);
            lane.flush()
        })
    }

    fn put_batch(&mut self, lane: usize, records: &[&[u8]]) -> Result<()> {
        self.0.with(lane, |lane| {
            if lane.is_buffered {
                return records.iter().try_for_each(|record| lane.buffer(record));
            }
            records.iter().for_each(|record| lane.frame(record));
            lane.flush()
        })
    }
}

/// Writes a frame at an offset of a file.
pub(super) fn write_frame_at(file: &File, frame: &mut Vec<u8>, record: &[u8], offset: u64) -> Result<u64> {
    frame.clear();
    frame.extend_from_slice(&header(record));
    frame.extend_from_slice(record);
    file.write_all_at(frame, offset)?;
    Ok(frame.len() as u64)
}
