//! Decides which leases the shards of a stream need, and which are no longer needed, as the KCL does.

use std::collections::{BTreeMap, BTreeSet};

use super::lease::{Checkpoint, Lease, compare_numbers};
use super::read::RemoteShard;

/// The children of a shard, each with its parents.
pub(super) type Children = Vec<(String, Vec<String>)>;

/// The list of shards contradicts itself, because shards are changing. It has to be read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inconsistent(pub(super) String);

/// Returns the leases of a new application: those of these shards, which together own all hash keys.
pub(super) fn first_leases(
    shards: &[&RemoteShard],
    initial: &Checkpoint,
) -> Result<Vec<Lease>, Inconsistent> {
    check_ranges(shards)?;
    Ok(in_order(shards.iter().map(|shard| lease_of(shard, initial.clone())), shards.iter().copied()))
}

/// Returns the shards at which a new application begins at the oldest records: those without an existing parent.
pub(super) fn roots(shards: &[RemoteShard]) -> Vec<&RemoteShard> {
    let ids: BTreeSet<&str> = shards.iter().map(|shard| &*shard.id).collect();
    shards.iter().filter(|shard| !shard.parents.iter().any(|parent| ids.contains(&**parent))).collect()
}

/// Returns the leases that are missing.
pub(super) fn missing_leases(
    shards: &[RemoteShard],
    leases: &[Lease],
    initial: &Checkpoint,
) -> Result<Vec<Lease>, Inconsistent> {
    let by_id: BTreeMap<&str, &RemoteShard> = shards.iter().map(|shard| (&*shard.id, shard)).collect();
    let open_parent = |shard: &RemoteShard| {
        shard.parents.iter().any(|parent| by_id.get(&**parent).is_some_and(|parent| parent.is_open()))
    };
    if let Some(child) = shards.iter().find(|shard| open_parent(shard)) {
        return Err(Inconsistent(format!("{} is there, and its parent is open", child.id)));
    }
    let leased = leases.iter().map(|lease| &*lease.key).collect();
    let mut walk = Walk { by_id, leased, initial, covered: BTreeMap::new(), missing: BTreeMap::new() };
    for shard in shards.iter().filter(|shard| shard.is_open()) {
        walk.visit(&shard.id, true);
    }
    Ok(in_order(walk.missing.into_values(), shards.iter()))
}

struct Walk<'a> {
    by_id: BTreeMap<&'a str, &'a RemoteShard>,
    leased: BTreeSet<&'a str>,
    initial: &'a Checkpoint,
    /// The results so far: whether the lease of a shard, or of an ancestor, exists or will exist.
    covered: BTreeMap<String, bool>,
    missing: BTreeMap<String, Lease>,
}

impl Walk<'_> {
    /// Notes which leases are missing for a shard and its ancestors. Returns whether a lease covers its records.
    fn visit(&mut self, id: &str, is_open: bool) -> bool {
        if let Some(&covered) = self.covered.get(id) {
            return covered;
        }
        let covered = self.find_out(id, is_open);
        self.covered.insert(id.to_owned(), covered);
        covered
    }

    fn find_out(&mut self, id: &str, is_open: bool) -> bool {
        if self.leased.contains(id) {
            return true;
        }
        let Some(shard) = self.by_id.get(id).copied() else { return false };
        let visited: Vec<bool> = shard.parents.iter().map(|parent| self.visit(parent, false)).collect();
        if visited.contains(&true) {
            // One parent of a merge is covered. The child's lease is created only when both parents have ended, so the other one needs a lease, too.
            for parent in
                shard.parents.iter().zip(visited).filter(|(_, covered)| !covered).map(|(parent, _)| parent)
            {
                self.add(parent);
            }
            return true;
        }
        let is_latest = *self.initial == Checkpoint::Latest;
        if is_latest && !is_open {
            return false;
        }
        self.add(id);
        !is_latest
    }

    fn add(&mut self, id: &str) {
        if let Some(shard) = self.by_id.get(id) {
            self.missing.insert(id.to_owned(), lease_of(shard, self.initial.clone()));
        }
    }
}

fn lease_of(shard: &RemoteShard, checkpoint: Checkpoint) -> Lease {
    let hash_range = Some(shard.hash_range.clone());
    Lease { parents: shard.parents.clone(), hash_range, ..Lease::new(&*shard.id, checkpoint) }
}

/// Returns leases in the order of the shards' first numbers, so that a crash half-way leaves the ancestors of the missing ones.
fn in_order<'a>(
    leases: impl Iterator<Item = Lease>,
    shards: impl Iterator<Item = &'a RemoteShard>,
) -> Vec<Lease> {
    let starts: BTreeMap<&str, &str> =
        shards.map(|shard| (&*shard.id, &*shard.starting_sequence_number)).collect();
    let start = |lease: &Lease| starts.get(&*lease.key).copied().unwrap_or_default();
    let mut leases: Vec<Lease> = leases.collect();
    leases.sort_by(|one, other| {
        compare_numbers(start(one), start(other)).then_with(|| one.key.cmp(&other.key))
    });
    leases
}

/// Checks that shards together have each hash key once.
fn check_ranges(shards: &[&RemoteShard]) -> Result<(), Inconsistent> {
    let parse = |text: &str| text.parse::<u128>().ok();
    let ranges = shards.iter().map(|shard| Some((parse(&shard.hash_range.0)?, parse(&shard.hash_range.1)?)));
    let mut ranges: Vec<(u128, u128)> = ranges
        .collect::<Option<_>>()
        .ok_or_else(|| Inconsistent("a shard has no range of hash keys".to_owned()))?;
    ranges.sort_unstable();
    let mut next = Some(0);
    for (start, end) in ranges {
        if next != Some(start) {
            return Err(Inconsistent(format!("the shards have a hole or overlap at the hash key {start}")));
        }
        next = end.checked_add(1);
    }
    match next {
        None => Ok(()),
        Some(next) => Err(Inconsistent(format!("no shard has the hash keys from {next} on"))),
    }
}

/// Returns the leases of the children of a shard that has ended, as far as they are due: that of a merge once both parents have leases.
pub(super) fn leases_of_children(
    ended: &str,
    children: &[(String, Vec<String>)],
    shards: &[RemoteShard],
    leases: &[Lease],
) -> Vec<Lease> {
    let is_leased = |id: &str| leases.iter().any(|lease| lease.key == id);
    let is_due = |parents: &[String]| parents.iter().all(|parent| parent == ended || is_leased(parent));
    let due = children.iter().filter(|(child, parents)| !is_leased(child) && is_due(parents));
    let due = due.map(|(child, parents)| {
        let shard = shards.iter().find(|shard| shard.id == *child);
        let hash_range = shard.map(|shard| shard.hash_range.clone());
        Lease { parents: parents.clone(), hash_range, ..Lease::new(child, Checkpoint::TrimHorizon) }
    });
    due.collect()
}

/// Returns whether a shard may be read: each of its parents has ended, or has no lease.
pub(super) fn may_begin(lease: &Lease, leases: &[Lease]) -> bool {
    let ended =
        |parent: &String| leases.iter().find(|other| other.key == *parent).is_none_or(Lease::is_ended);
    lease.parents.iter().all(ended)
}

/// Returns whether a lease is no longer needed: the shard has ended, its children are being read, and its parents are gone. Or the shard itself is
/// gone: it is not in a list that is newer than the leases.
pub(super) fn is_needless(lease: &Lease, leases: &[Lease], shards: &[RemoteShard]) -> bool {
    let find = |key: &str| leases.iter().find(|other| other.key == key);
    if !lease.is_ended() || lease.parents.iter().any(|parent| find(parent).is_some()) {
        return false;
    }
    if !shards.iter().any(|shard| shard.id == lease.key) {
        return true;
    }
    let has_begun = |child: &String| find(child).is_some_and(|child| child.checkpoint.has_begun());
    !lease.children.is_empty() && lease.children.iter().all(has_begun)
}
