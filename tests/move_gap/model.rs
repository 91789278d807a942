//! A move from a local stream to a distributed one, as arithmetic: producers put on the old side, a relay forwards, and one producer after
//! the other switches to the new side. No stream, no clock, no thread. Times are microseconds.

use std::collections::BTreeMap;

/// The schedule of a producer.
#[derive(Debug, Clone)]
pub struct Producer {
    pub first: u64,
    pub every: u64,
    pub records: u64,
    /// Its records have these keys in turn.
    pub keys: Vec<u32>,
    /// When it should switch.
    pub switch_at: u64,
}

/// Sends records in order, one batch at a time.
#[derive(Debug, Clone)]
pub struct Relay {
    /// The maximum number of records in a batch.
    pub batch: usize,
    /// How long one record occupies the link.
    pub per_record: u64,
    /// The time from sending a batch until readers of the new side have it.
    pub travel: u64,
    /// The time from then until the relay has committed it.
    pub commit: u64,
    /// The periods in which nothing is sent.
    pub outages: Vec<(u64, u64)>,
    /// When the relay dies, and when it runs again. It resumes after its last commit.
    pub crash: Option<(u64, u64)>,
}

/// The condition that a producer waits for before it switches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// None.
    AtOnce,
    /// A lag below this.
    LagBelow(u64),
    /// A lag below this. Then its first put on the new side waits until readers can have its own last record of the old side.
    HeldUntilVisible(u64),
    /// The same, until the relay has committed that record.
    HeldUntilCommitted(u64),
    /// The same, until this holds for all producers, and all have switched.
    AllHeldUntilCommitted(u64),
}

impl Rule {
    fn lag_below(self) -> u64 {
        match self {
            Self::AtOnce => u64::MAX,
            Self::LagBelow(lag)
            | Self::HeldUntilVisible(lag)
            | Self::HeldUntilCommitted(lag)
            | Self::AllHeldUntilCommitted(lag) => lag,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Move {
    pub producers: Vec<Producer>,
    pub relay: Relay,
    /// The time from a put on the new side until readers have the record.
    pub put: u64,
    pub rule: Rule,
}

/// A record of the old side.
#[derive(Debug, Clone, Copy)]
struct Local {
    producer: usize,
    key: u32,
    put_at: u64,
}

/// A record that its producer made after it had switched.
#[derive(Debug, Clone, Copy)]
struct Later {
    producer: usize,
    key: u32,
    made_at: u64,
}

/// What the relay has done so far.
#[derive(Debug, Default)]
struct Way {
    /// Records that were sent.
    sent: usize,
    free_at: u64,
    /// Which record was seen when: twice if it was sent twice.
    seen: Vec<(usize, u64)>,
    /// When each record was seen first, and when it was committed.
    visible: Vec<u64>,
    committed: Vec<u64>,
    has_crashed: bool,
}

impl Relay {
    /// Sends all batches that begin before a time.
    fn run_until(&self, until: u64, local: &[Local], way: &mut Way) {
        while let Some(next) = local.get(way.sent) {
            let mut start = way.free_at.max(next.put_at);
            while let Some((_, to)) = self.outages.iter().find(|(from, to)| (*from..*to).contains(&start)) {
                start = *to;
            }
            if start >= until {
                return;
            }
            let there = local[way.sent..].iter().take_while(|record| record.put_at <= start).count();
            let count = there.min(self.batch);
            let visible = start + count as u64 * self.per_record + self.travel;
            let committed = visible + self.commit;
            let batch = way.sent..way.sent + count;
            if let Some((at, again)) = self.crash
                && !way.has_crashed
                && at <= committed
            {
                way.has_crashed = true;
                way.free_at = again.max(way.free_at);
                if visible <= at && start <= at {
                    way.seen.extend(batch.clone().map(|record| (record, visible)));
                    way.visible.extend(batch.map(|_| visible));
                }
                continue;
            }
            for record in batch {
                way.seen.push((record, visible));
                if way.visible.len() == record {
                    way.visible.push(visible);
                }
                way.committed.push(committed);
            }
            way.sent += count;
            way.free_at = committed;
        }
    }
}

impl Way {
    /// Returns the age of the oldest uncommitted record.
    fn lag(&self, now: u64, local: &[Local]) -> u64 {
        let open = self.committed.partition_point(|committed| *committed <= now);
        local.get(open).map_or(0, |record| now.saturating_sub(record.put_at))
    }
}

/// What readers of the new side saw of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    pub records: u64,
    /// Records seen after a record that was put later.
    pub out_of_order: u64,
    /// Records of the old side seen again after one of the new side.
    pub late_again: u64,
    /// The longest time from a record until one that was put before it.
    pub window: u64,
    /// From the last record of the old side to the first of the new one; negative if that came first.
    pub gap: Option<i64>,
    /// From put to visible, of the last record of the old side.
    pub lag: u64,
}

#[derive(Debug, Clone, Default)]
pub struct Outcome {
    pub keys: BTreeMap<u32, Seen>,
    /// The longest time that a producer kept a record before it put it.
    pub held: u64,
    /// The maximum number of records that a producer kept at a time.
    pub kept: u64,
    /// When each producer switched.
    pub switched_at: Vec<Option<u64>>,
}

impl Outcome {
    pub fn out_of_order(&self) -> u64 {
        self.keys.values().map(|seen| seen.out_of_order).sum()
    }

    pub fn late_again(&self) -> u64 {
        self.keys.values().map(|seen| seen.late_again).sum()
    }

    pub fn window(&self) -> u64 {
        self.keys.values().map(|seen| seen.window).max().unwrap_or(0)
    }
}

/// One time that readers saw a record.
#[derive(Debug, Clone, Copy)]
struct Sight {
    key: u32,
    at: u64,
    /// When its put began, which is the order of a key.
    issued: (u64, usize),
    is_new_side: bool,
}

impl Move {
    pub fn run(&self) -> Outcome {
        let mut made: Vec<(u64, usize, u64)> = vec![];
        for (producer, it) in self.producers.iter().enumerate() {
            made.extend((0..it.records).map(|number| (it.first + number * it.every, producer, number)));
        }
        made.sort_unstable();
        let (mut local, mut later, mut way) = (vec![], vec![], Way::default());
        let mut switched_at = vec![None; self.producers.len()];
        for (now, producer, number) in made {
            self.relay.run_until(now, &local, &mut way);
            let it = &self.producers[producer];
            let key = it.keys[number as usize % it.keys.len()];
            let may_switch = now >= it.switch_at && way.lag(now, &local) < self.rule.lag_below();
            if switched_at[producer].is_none() && may_switch {
                switched_at[producer] = Some(now);
            }
            match switched_at[producer] {
                None => local.push(Local { producer, key, put_at: now }),
                Some(_) => later.push(Later { producer, key, made_at: now }),
            }
        }
        self.relay.run_until(u64::MAX, &local, &mut way);
        let releases = self.releases(&local, &way, &switched_at);
        self.outcome(&local, &later, &way, &releases, switched_at)
    }

    /// Returns the time from which each producer puts on the new side.
    fn releases(&self, local: &[Local], way: &Way, switched_at: &[Option<u64>]) -> Vec<u64> {
        let last = |times: &[u64], producer: usize| {
            local.iter().rposition(|record| record.producer == producer).map_or(0, |record| times[record])
        };
        let count = self.producers.len();
        match self.rule {
            Rule::AtOnce | Rule::LagBelow(_) => vec![0; count],
            Rule::HeldUntilVisible(_) => (0..count).map(|producer| last(&way.visible, producer)).collect(),
            Rule::HeldUntilCommitted(_) => {
                (0..count).map(|producer| last(&way.committed, producer)).collect()
            }
            Rule::AllHeldUntilCommitted(_) => {
                let all_over = switched_at.iter().flatten().max().copied().unwrap_or(0);
                vec![way.committed.last().copied().unwrap_or(0).max(all_over); count]
            }
        }
    }

    fn outcome(
        &self,
        local: &[Local],
        later: &[Later],
        way: &Way,
        releases: &[u64],
        switched_at: Vec<Option<u64>>,
    ) -> Outcome {
        let mut outcome = Outcome { switched_at, ..Outcome::default() };
        let mut sights: Vec<Sight> = way
            .seen
            .iter()
            .map(|&(record, at)| Sight {
                key: local[record].key,
                at,
                issued: (local[record].put_at, record),
                is_new_side: false,
            })
            .collect();
        let mut kept = vec![0; releases.len()];
        for (number, record) in later.iter().enumerate() {
            let issued = record.made_at.max(releases[record.producer]);
            outcome.held = outcome.held.max(issued - record.made_at);
            if issued > record.made_at {
                kept[record.producer] += 1;
            }
            sights.push(Sight {
                key: record.key,
                at: issued + self.put,
                issued: (issued, local.len() + number),
                is_new_side: true,
            });
        }
        outcome.kept = kept.into_iter().max().unwrap_or(0);
        // At the same moment, the record sent first comes first.
        sights.sort_by_key(|sight| (sight.at, sight.issued));
        let mut of_keys: BTreeMap<u32, Vec<Sight>> = BTreeMap::new();
        for sight in sights {
            of_keys.entry(sight.key).or_default().push(sight);
        }
        outcome.keys = of_keys.into_iter().map(|(key, sights)| (key, seen(&sights))).collect();
        outcome
    }
}

/// Analyses one key's records in the order in which readers saw them.
fn seen(sights: &[Sight]) -> Seen {
    let mut seen = Seen::default();
    // When each record was seen first, by the order of the puts.
    let mut firsts: BTreeMap<(u64, usize), u64> = BTreeMap::new();
    let (mut last_old, mut first_new) = (None::<Sight>, None::<Sight>);
    for sight in sights {
        if firsts.contains_key(&sight.issued) {
            seen.late_again += u64::from(first_new.is_some());
            continue;
        }
        if let Some((&newest, _)) = firsts.last_key_value()
            && newest > sight.issued
        {
            seen.out_of_order += 1;
            // How long the first one that should have waited has been there.
            let early = firsts.range(sight.issued..).map(|(_, at)| *at).min().expect("one that is newer");
            seen.window = seen.window.max(sight.at - early);
        }
        firsts.insert(sight.issued, sight.at);
        match sight.is_new_side {
            true => first_new = first_new.or(Some(*sight)),
            false => last_old = Some(*sight),
        }
    }
    seen.records = firsts.len() as u64;
    if let (Some(old), Some(new)) = (last_old, first_new) {
        seen.gap = Some(new.at as i64 - old.at as i64);
        seen.lag = old.at - old.issued.0;
    }
    seen
}
