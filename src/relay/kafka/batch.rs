//! The state of the records of a batch on their way to Kafka.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rdkafka::error::RDKafkaErrorCode;

/// A batch that is being sent.
#[derive(Debug)]
pub(super) struct Batch {
    reports: Mutex<Reports>,
    /// Notified when no record is unanswered any more.
    all_reported: Condvar,
}

#[derive(Debug)]
struct Reports {
    states: Vec<State>,
    in_work: usize,
}

/// The state of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It has to be sent.
    Open,
    /// It was sent, and Kafka has not answered.
    InWork,
    /// It has failed for this reason, and has to be sent again.
    Failed(RDKafkaErrorCode),
    /// Kafka has it.
    Done,
    /// Kafka will never take it, and it is at the destination for such records.
    GivenUp,
}

/// The data that a producer carries with a record, and returns with the report.
pub(super) struct Parcel {
    batch: Arc<Batch>,
    index: usize,
}

impl Parcel {
    /// Notes the outcome of the record.
    pub(super) fn report(self, outcome: Result<(), RDKafkaErrorCode>) {
        self.settle(outcome.map_or_else(State::Failed, |()| State::Done));
    }

    /// Notes that the record was not sent.
    pub(super) fn take_back(self) {
        self.settle(State::Open);
    }

    fn settle(self, state: State) {
        let mut reports = self.batch.reports.lock();
        reports.states[self.index] = state;
        reports.in_work -= 1;
        if reports.in_work == 0 {
            drop(reports);
            self.batch.all_reported.notify_all();
        }
    }
}

impl Batch {
    pub(super) fn new(records: usize) -> Arc<Self> {
        let reports = Mutex::new(Reports { states: vec![State::Open; records], in_work: 0 });
        Arc::new(Self { reports, all_reported: Condvar::new() })
    }

    /// Notes that a record is sent. The returned parcel must be reported or taken back.
    pub(super) fn hand_out(self: &Arc<Self>, index: usize) -> Box<Parcel> {
        let mut reports = self.reports.lock();
        reports.states[index] = State::InWork;
        reports.in_work += 1;
        Box::new(Parcel { batch: Arc::clone(self), index })
    }

    /// Notes that a record is not to be sent any more.
    pub(super) fn set_given_up(&self, index: usize) {
        self.reports.lock().states[index] = State::GivenUp;
    }

    /// Waits until all that was sent is reported. Returns whether it is.
    pub(super) fn wait(&self, limit: Duration) -> bool {
        let mut reports = self.reports.lock();
        self.all_reported.wait_while_for(&mut reports, |reports| reports.in_work > 0, limit);
        reports.in_work == 0
    }

    /// Returns which records are not done, in order, and why.
    pub(super) fn left(&self) -> Vec<(usize, State)> {
        let reports = self.reports.lock();
        let states = reports.states.iter().copied().enumerate();
        states.filter(|(_, state)| !matches!(state, State::Done | State::GivenUp)).collect()
    }

    /// Returns why records have failed. If there are several, it prefers one that concerns the records themselves: it causes the others.
    pub(super) fn failure(&self) -> Option<RDKafkaErrorCode> {
        let reports = self.reports.lock();
        let failed = reports.states.iter().filter_map(|state| match state {
            State::Failed(code) => Some(*code),
            _ => None,
        });
        failed.clone().find(|&code| is_permanent(code)).or_else(|| failed.clone().next())
    }

    /// Returns the state of a record.
    pub(super) fn state(&self, index: usize) -> State {
        self.reports.lock().states[index]
    }
}

/// Returns whether an error says that a record itself is not acceptable, so that sending it again is of no use.
pub(super) fn is_permanent(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::InvalidRecord | Code::InvalidTimestamp
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_knows_what_is_left_of_it() {
        let batch = Batch::new(3);
        let parcels: Vec<_> = (0..3).map(|index| batch.hand_out(index)).collect();
        assert!(!batch.wait(Duration::ZERO));
        let outcomes = [Ok(()), Err(RDKafkaErrorCode::MessageSizeTooLarge), Ok(())];
        parcels.into_iter().zip(outcomes).for_each(|(parcel, outcome)| parcel.report(outcome));
        assert!(batch.wait(Duration::ZERO));
        assert_eq!(batch.left(), [(1, State::Failed(RDKafkaErrorCode::MessageSizeTooLarge))]);
        batch.hand_out(1).take_back();
        assert_eq!(batch.left(), [(1, State::Open)]);
        batch.set_given_up(1);
        assert!(batch.left().is_empty());
    }

    #[test]
    fn a_record_that_is_refused_is_the_reason_and_not_what_fails_because_of_it() {
        let batch = Batch::new(3);
        assert_eq!(batch.failure(), None);
        batch.hand_out(0).report(Err(RDKafkaErrorCode::PurgeQueue));
        assert_eq!(batch.failure(), Some(RDKafkaErrorCode::PurgeQueue));
        batch.hand_out(2).report(Err(RDKafkaErrorCode::InvalidRecord));
        assert_eq!(batch.failure(), Some(RDKafkaErrorCode::InvalidRecord));
    }

    #[test]
    fn a_wait_ends_with_the_last_report() {
        let batch = Batch::new(1);
        let parcel = batch.hand_out(0);
        let reporter = std::thread::spawn(move || parcel.report(Ok(())));
        assert!(batch.wait(Duration::from_secs(30)));
        reporter.join().expect("it does not panic");
        assert_eq!(batch.state(0), State::Done);
    }
}
