//! The notes about jobs that are sent to the supervisor: lines of numbers.

use streamlog::ShardId;

use super::record::Job;
use super::windows::Tally;
use super::{QueueId, Side, WindowsId};
use crate::record::Number;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    /// The number of records of each key that were put and acknowledged in a run.
    Put { run: u32, counts: Vec<u64> },
    /// This many records are trimmed.
    Trimmed { count: u64 },
    /// The last call for a window: when the window began, and what it has counted.
    Window { id: WindowsId, shard: ShardId, start_micros: u64, tallies: Vec<Tally> },
    /// A processor gives up records.
    GivenUp { id: WindowsId, jobs: Vec<Job> },
    /// A queue has delivered records, each with its receive count.
    Taken { id: QueueId, jobs: Vec<(Job, u32)> },
    /// They are about to be acknowledged, as dead letters or not.
    Acknowledging { id: QueueId, jobs: Vec<Job> },
    /// They are acknowledged; each comes with its receive count.
    Acknowledged { id: QueueId, jobs: Vec<(Job, u32)> },
    /// They are not acknowledged, because their visibility timeout had ended and they were delivered again.
    Refused { id: QueueId, jobs: Vec<Job> },
    /// A good record was a dead letter, and is put back.
    Restored { id: QueueId, jobs: Vec<Job> },
}

const SIDES: [Side; 2] = [Side::Inside, Side::Outside];

fn number_of_queue(id: QueueId) -> u64 {
    QueueId::ALL.iter().position(|known| *known == id).unwrap_or_default() as u64
}

impl Note {
    /// Returns the note as numbers.
    pub(crate) fn fields(&self) -> Vec<u64> {
        let with_jobs = |kind: u64, id: u64, jobs: &[Job]| {
            let of_job = |job: &Job| [u64::from(job.key), u64::from(job.number.run), job.number.count];
            [kind, id].into_iter().chain(jobs.iter().flat_map(of_job)).collect()
        };
        let with_receives = |kind: u64, id: QueueId, jobs: &[(Job, u32)]| {
            let of_job = |(job, receives): &(Job, u32)| {
                [job.key.into(), job.number.run.into(), job.number.count, u64::from(*receives)]
            };
            [kind, number_of_queue(id)].into_iter().chain(jobs.iter().flat_map(of_job)).collect()
        };
        match self {
            Self::Put { run, counts } => {
                [0, u64::from(*run)].into_iter().chain(counts.iter().copied()).collect()
            }
            Self::Window { id, shard, start_micros, tallies } => {
                let head = [1, id.0 as u64, u64::from(shard.get()), *start_micros];
                head.into_iter().chain(tallies.iter().flatten().copied()).collect()
            }
            Self::GivenUp { id, jobs } => with_jobs(2, id.0 as u64, jobs),
            Self::Taken { id, jobs } => with_receives(3, *id, jobs),
            Self::Acknowledging { id, jobs } => with_jobs(4, number_of_queue(*id), jobs),
            Self::Acknowledged { id, jobs } => with_receives(5, *id, jobs),
            Self::Refused { id, jobs } => with_jobs(6, number_of_queue(*id), jobs),
            Self::Restored { id, jobs } => with_jobs(7, number_of_queue(*id), jobs),
            Self::Trimmed { count } => vec![8, *count],
        }
    }

    pub(crate) fn from_fields(fields: &[u64]) -> Option<Self> {
        let (&[kind, of], rest) = fields.split_first_chunk()?;
        let job = |it: &[u64]| Job { key: it[0] as u16, number: Number { run: it[1] as u32, count: it[2] } };
        let jobs = || rest.chunks_exact(3).map(job).collect();
        let with_receives = || rest.chunks_exact(4).map(|it| (job(it), it[3] as u32)).collect();
        let windows = SIDES.get(of as usize).map(|&side| WindowsId(side));
        let queue = QueueId::ALL.get(of as usize).copied();
        Some(match kind {
            0 => Self::Put { run: of as u32, counts: rest.to_vec() },
            1 => {
                let (&[shard, start_micros], tallies) = rest.split_first_chunk()?;
                let tallies = tallies.as_chunks().0.to_vec();
                Self::Window { id: windows?, shard: ShardId::new(shard as u32), start_micros, tallies }
            }
            2 => Self::GivenUp { id: windows?, jobs: jobs() },
            3 => Self::Taken { id: queue?, jobs: with_receives() },
            4 => Self::Acknowledging { id: queue?, jobs: jobs() },
            5 => Self::Acknowledged { id: queue?, jobs: with_receives() },
            6 => Self::Refused { id: queue?, jobs: jobs() },
            7 => Self::Restored { id: queue?, jobs: jobs() },
            8 => Self::Trimmed { count: of },
            _ => return None,
        })
    }
}
