//! The objects of a shard whose borders are decided, until they are delivered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::format::Encode;
use super::part::{Origin, Part, Span};
use super::plan::Rules;
use super::state::Decided;
use crate::SequenceNumber;

/// An object that is built.
#[derive(Debug)]
pub(super) struct Building {
    pub(super) span: Span,
    pub(super) rows: Box<dyn Encode>,
    pub(super) row_count: u64,
    /// The origin of each row, if the sink wants it.
    pub(super) origins: Vec<Origin>,
    pub(super) origin_bytes: usize,
    /// The bytes that were added, counted before formatting.
    pub(super) input_bytes: usize,
    /// When it was begun.
    pub(super) begun: Duration,
    /// A checksum of which rows were added and, if a function makes them, of their data. Without a function, the same records become the same rows.
    /// The error output is excluded, because it contains times.
    pub(super) checksum: u64,
}

impl Building {
    /// Returns the bytes that it takes in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.rows.memory_bytes() + self.origin_bytes
    }
}

/// An object to be delivered.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) object: u64,
    pub(super) decided: Decided,
    pub(super) rules: Arc<Rules>,
    pub(super) building: Building,
}

/// The objects by their numbers, which only count them.
#[derive(Debug, Default)]
pub(super) struct Objects {
    all: BTreeMap<u64, Object>,
    next: u64,
}

#[derive(Debug)]
struct Object {
    decided: Decided,
    stage: Stage,
    memory_bytes: usize,
}

#[derive(Debug)]
enum Stage {
    /// It was decided before a crash, and its records are read again.
    Again(Option<Building>),
    Decided(Building),
    Committed(Building),
    HandedOut,
}

impl Objects {
    /// Adds an object that was decided before a crash.
    pub(super) fn add_again(&mut self, decided: Decided) {
        self.add(Object { decided, stage: Stage::Again(None), memory_bytes: 0 });
    }

    pub(super) fn add_decided(&mut self, decided: Decided, building: Building) {
        let memory_bytes = building.memory_bytes();
        self.add(Object { decided, stage: Stage::Decided(building), memory_bytes });
    }

    fn add(&mut self, object: Object) {
        self.all.insert(self.next, object);
        self.next += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Returns whether an object is not yet committed.
    pub(super) fn has_decided(&self) -> bool {
        self.all.values().any(|object| matches!(object.stage, Stage::Decided(_)))
    }

    pub(super) fn decided(&self) -> impl Iterator<Item = &Decided> {
        self.all.values().map(|object| &object.decided)
    }

    /// Returns what is built again of a part and holds the rows of a record, and the memory that it takes.
    pub(super) fn again(
        &mut self,
        part: &Part,
        sequence: SequenceNumber,
    ) -> Option<(&mut Option<Building>, &mut usize)> {
        self.all.values_mut().find_map(|object| match &mut object.stage {
            Stage::Again(building) if object.decided.part == *part && object.decided.span.holds(sequence) => {
                Some((building, &mut object.memory_bytes))
            }
            _ => None,
        })
    }

    /// Completes the objects that were built again, because all records before a number were read. Returns whether some have no rows, because
    /// retention has dropped their records, and the names of those whose rows differ from before.
    pub(super) fn note_read_to(&mut self, read_to: SequenceNumber) -> (bool, Vec<String>) {
        let (mut gone, mut changed) = (vec![], vec![]);
        for (&number, object) in &mut self.all {
            if object.decided.span.last >= read_to {
                continue;
            }
            let Stage::Again(building) = &mut object.stage else { continue };
            let building = building.take();
            if building.as_ref().is_none_or(|building| building.checksum != object.decided.checksum) {
                changed.push(object.decided.name.clone());
            }
            match building {
                Some(building) => object.stage = Stage::Committed(building),
                None => gone.push(number),
            }
        }
        gone.iter().for_each(|number| _ = self.all.remove(number));
        (!gone.is_empty(), changed)
    }

    pub(super) fn note_commit(&mut self) {
        for object in self.all.values_mut() {
            object.stage = match std::mem::replace(&mut object.stage, Stage::HandedOut) {
                Stage::Decided(building) => Stage::Committed(building),
                stage => stage,
            };
        }
    }

    /// Returns the objects that can be delivered now.
    pub(super) fn take_ready(&mut self, rules: &Arc<Rules>) -> Vec<Ready> {
        let mut ready = vec![];
        for (&object, Object { decided, stage, .. }) in &mut self.all {
            match std::mem::replace(stage, Stage::HandedOut) {
                Stage::Committed(building) => {
                    let (decided, rules) = (decided.clone(), Arc::clone(rules));
                    ready.push(Ready { object, decided, rules, building });
                }
                other => *stage = other,
            }
        }
        ready
    }

    /// Forgets an object that was delivered. Returns the memory that it took.
    pub(super) fn note_delivered(&mut self, object: u64) -> Option<usize> {
        self.all.remove(&object).map(|object| object.memory_bytes)
    }
}
