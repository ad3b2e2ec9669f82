//! Building a state from a checkpoint and the log, or from the log alone.
//!
//! One scanner checks records; the thread that scans applies structural operations itself, in order;
//! writes are applied by it too, or by several appliers, each of which owns the pages whose index falls to it. The bytes
//! are the same for any number of appliers, because all writes to a page are applied by one of them, in the order of the log.
//! Where memory changes hands (a free, a transfer) everybody catches up first.

use crate::planted::planted;
use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use parking_lot::Mutex;

use crate::checkpoint::CheckpointDamage;
use crate::checkpoint::format::Manifest;
use crate::checkpoint::load;
use crate::codec;
use crate::device::DeviceError;
use crate::log::batch::Batch;
use crate::log::discover::{LogMap, discover};
use crate::log::error::LogError;
use crate::log::format::Identity;
use crate::log::mark::{self, MARK_NAME};
use crate::log::reader::{Scanned, Scanner};
use crate::log::record::{Op, Record};
use crate::log::tail::Tail;
use crate::lsn::Lsn;
use crate::memory::{ArenaError, PlacementError};
use crate::options::Options;
use crate::state::apply::ApplyFault;
use crate::state::device::{DeviceSpace, Sink};
use crate::state::structure::ReplayFault;
use crate::state::{State, StateError};
use crate::storage::Storage;
use crate::transaction::TransactionError;

/// Jobs that may wait for an applier.
const QUEUED_JOBS: usize = 8;

/// Why a state cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// The log cannot be read, or is damaged.
    #[error(transparent)]
    Log(#[from] LogError),
    /// There is no log.
    #[error("{place} holds no log; open it as a bus to create one")]
    NoLog {
        /// The directory.
        place: String,
    },
    /// The beginning of the log is gone, and no checkpoint replaces it.
    #[error(
        "the log begins with LSN {first} and no usable checkpoint covers what was before{damage}"
    )]
    Truncated {
        /// First LSN that there is.
        first: Lsn,
        /// What was wrong with the checkpoints, if there were any.
        damage: String,
    },
    /// The state of this LSN cannot be had: it is older than the checkpoint that the remaining log starts from.
    #[error(
        "the state at LSN {until} is no longer retained; the oldest that can be replayed is LSN {oldest}"
    )]
    NotRetained {
        /// What was asked for.
        until: Lsn,
        /// The oldest state there is.
        oldest: Lsn,
    },
    /// The log does not go that far.
    #[error("the log ends with LSN {last}, before LSN {until}")]
    BeyondEnd {
        /// What was asked for.
        until: Lsn,
        /// The last LSN there is.
        last: Lsn,
    },
    /// A record is intact but cannot be applied: it was written by a different engine, or one with a defect.
    #[error("the transaction with LSN {lsn} cannot be repeated: {why}")]
    Record {
        /// Its LSN.
        lsn: Lsn,
        /// What is wrong.
        why: String,
    },
    /// The arena cannot be mapped.
    #[error(transparent)]
    Arena(#[from] ArenaError),
    /// The device cannot hold its pages, or fails.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The pages do not fit.
    #[error(
        "the arena of {arena_bytes} bytes is too small for the pages as of LSN {lsn}; open with at least as many \
         as the log was written with"
    )]
    ArenaTooSmall {
        /// Length of the arena.
        arena_bytes: u64,
        /// The transaction, or the checkpoint, whose pages do not fit.
        lsn: Lsn,
    },
    /// The progress callback broke off.
    #[error("aborted by the progress callback")]
    Aborted,
}

impl From<StateError> for RecoveryError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Arena(error) => Self::Arena(error),
            StateError::Device(error) => Self::Device(error),
        }
    }
}

/// Which state is built.
#[derive(Clone, Copy)]
pub(crate) enum Target<'a> {
    /// A new one.
    New,
    /// A shadow, see [`State::shadow`].
    Device(&'a Arc<DeviceSpace>),
    /// Some ranges of the device, see [`State::sinking`].
    Sink(&'a Arc<Sink>),
}

impl Target<'_> {
    fn state(self, options: &Options) -> Result<State, StateError> {
        match self {
            Self::New => State::new(options),
            Self::Device(space) => State::shadow(options, space),
            Self::Sink(sink) => State::sinking(options, sink),
        }
    }
}

/// A state, and what it was built from.
pub(crate) struct Rebuilt {
    pub state: State,
    pub map: LogMap,
    pub tail: Tail,
    /// The state is as of this LSN.
    pub lsn: Lsn,
    pub checkpoint: Option<Manifest>,
    /// Other checkpoints that are usable, oldest first, the used one included.
    pub manifests: Vec<Manifest>,
    pub applied: u64,
    pub warnings: Vec<String>,
    /// The LSN that the mark of the last close names.
    pub closed: Option<Lsn>,
    /// What checkpoints and that mark say was durable.
    pub known_durable: Lsn,
    /// The highest number in the name of a manifest or an image file, readable or not; 0 if there is none.
    pub highest_checkpoint: u64,
}

/// Builds the newest state, or that as of `until`. `None`: there is no log yet.
/// `from_log` asks for the log alone, as long as its beginning is there.
pub(crate) fn rebuild(
    storage: &dyn Storage,
    options: &Options,
    until: Option<Lsn>,
    from_log: bool,
) -> Result<Option<Rebuilt>, RecoveryError> {
    rebuild_to(Target::New, storage, options, until, from_log)
}

/// As [`rebuild`], for any target. Derived pages of a shadow are not computed.
pub(crate) fn rebuild_to(
    target: Target<'_>,
    storage: &dyn Storage,
    options: &Options,
    until: Option<Lsn>,
    from_log: bool,
) -> Result<Option<Rebuilt>, RecoveryError> {
    let Some(Found {
        map,
        manifests,
        closed,
        known_durable,
        highest_checkpoint,
        mut warnings,
    }) = find(storage)?
    else {
        return Ok(None);
    };
    let first = map
        .segments
        .first()
        .map_or(Lsn(1), |segment| segment.header.first_lsn);
    let (state, checkpoint) = {
        let candidates = if from_log && first <= Lsn(1) {
            &[]
        } else {
            manifests.as_slice()
        };
        start(
            target,
            storage,
            options,
            &map,
            first,
            until,
            candidates,
            &mut warnings,
        )?
    };
    let after = checkpoint
        .as_ref()
        .map_or(Lsn::ZERO, |manifest| manifest.replay_after);
    let mut replayer = Replayer {
        state: &state,
        arena_bytes: options.arena_bytes,
        after,
        until: until.unwrap_or(Lsn(u64::MAX)),
        applied: 0,
        lsn: after,
    };
    let tail = replayer.run(
        Scanner::new(storage, &map, after.next(), known_durable),
        options,
    )?;
    let (applied, lsn) = (replayer.applied, replayer.lsn);
    if let Some(until) = until
        && lsn < until
    {
        return Err(RecoveryError::BeyondEnd { until, last: lsn });
    }
    if let Some(space) = state.device.get() {
        // Nothing that failed to arrive may be found out later only.
        space.settle()?;
    }
    // With a page evicted that others are computed from, whoever opens the log for good has to see to it.
    if matches!(target, Target::New) && !state.has_evicted() {
        state.recompute_all();
    }
    Ok(Some(Rebuilt {
        state,
        map,
        tail,
        lsn,
        checkpoint,
        manifests,
        applied,
        warnings,
        closed,
        known_durable,
        highest_checkpoint,
    }))
}

/// What there is to recover from.
pub(crate) struct Found {
    pub map: LogMap,
    /// The checkpoints whose manifests can be read, oldest first.
    pub manifests: Vec<Manifest>,
    pub closed: Option<Lsn>,
    pub known_durable: Lsn,
    pub highest_checkpoint: u64,
    pub warnings: Vec<String>,
}

/// Looks at the directory. `None`: there is no log yet.
pub(crate) fn find(storage: &dyn Storage) -> Result<Option<Found>, RecoveryError> {
    let names = storage.list().map_err(|source| LogError::Io {
        file: storage.describe(),
        source,
    })?;
    let sequences = load::list(&names);
    let mark = mark::read(storage, &names);
    let Some(map) = discover(storage)? else {
        nothing_to_recover(&sequences, &mark)?;
        return Ok(None);
    };
    let mut warnings = Vec::new();
    let manifests = usable_manifests(storage, &map.identity, &sequences, &mut warnings)?;
    let closed = closed_at(&map.identity, mark, &mut warnings);
    let claimed = manifests.iter().map(|manifest| manifest.durable_lsn);
    Ok(Some(Found {
        known_durable: claimed.chain(closed).max().unwrap_or_default(),
        map,
        manifests,
        closed,
        highest_checkpoint: load::highest(&names),
        warnings,
    }))
}

/// What the mark of a close came to when it was read.
type MarkRead = Result<Option<(Identity, Lsn)>, String>;

/// Whether a directory without a log is one that never had any.
fn nothing_to_recover(sequences: &[u64], mark: &MarkRead) -> Result<(), LogError> {
    if let Some(sequence) = sequences.first() {
        return Err(LogError::Missing {
            file: format!("log of checkpoint {sequence}"),
        });
    }
    match mark {
        Ok(Some((_, lsn))) if *lsn > Lsn::ZERO => Err(LogError::Missing {
            file: format!("log that was closed at LSN {lsn}"),
        }),
        _ => Ok(()),
    }
}

/// The LSN at which the log was closed, if an intact mark of this log says so.
fn closed_at(identity: &Identity, mark: MarkRead, warnings: &mut Vec<String>) -> Option<Lsn> {
    match mark {
        Ok(Some((of, lsn))) if of == *identity => return Some(lsn),
        Ok(Some(_)) => warnings.push(format!("{MARK_NAME} belongs to another log")),
        Ok(None) => {}
        Err(why) => warnings.push(why),
    }
    None
}

/// The manifests that can be read, oldest first. A damaged one is reported and passed over; a newer one is refused.
pub(crate) fn usable_manifests(
    storage: &dyn Storage,
    identity: &Identity,
    sequences: &[u64],
    warnings: &mut Vec<String>,
) -> Result<Vec<Manifest>, RecoveryError> {
    let mut manifests = Vec::new();
    for sequence in sequences.iter().rev() {
        match load::manifest(storage, identity, *sequence) {
            Ok(manifest) => manifests.push(manifest),
            Err(CheckpointDamage::Newer { file, why }) => {
                return Err(LogError::Foreign { file, why }.into());
            }
            Err(damage) => warnings.push(damage.to_string()),
        }
    }
    Ok(manifests)
}

/// An empty state, or that of the newest checkpoint that can be used.
#[expect(
    clippy::too_many_arguments,
    reason = "the parts of a recovery, each used once"
)]
fn start(
    target: Target<'_>,
    storage: &dyn Storage,
    options: &Options,
    map: &LogMap,
    first: Lsn,
    until: Option<Lsn>,
    manifests: &[Manifest],
    warnings: &mut Vec<String>,
) -> Result<(State, Option<Manifest>), RecoveryError> {
    let mut too_new = Vec::new();
    let followed = |manifest: &&Manifest| manifest.replay_after.next() >= first;
    for manifest in manifests.iter().rev().filter(followed) {
        if until.is_some_and(|until| until < manifest.newest_image) {
            too_new.push(manifest);
            continue;
        }
        let state = target.state(options)?;
        match load::restore(&state, storage, &map.identity, manifest) {
            Ok(()) => return Ok((state, Some(manifest.clone()))),
            Err(CheckpointDamage::ArenaTooSmall) => {
                return Err(RecoveryError::ArenaTooSmall {
                    arena_bytes: options.arena_bytes,
                    lsn: manifest.replay_after,
                });
            }
            Err(CheckpointDamage::Device(error)) => return Err(error.into()),
            Err(damage) => warnings.push(damage.to_string()),
        }
    }
    if first <= Lsn(1) {
        return Ok((target.state(options)?, None));
    }
    if let Some(until) = until {
        // What is named instead must be there for the asking, so it is tried.
        for manifest in too_new.into_iter().rev() {
            let state = target.state(options)?;
            match load::restore(&state, storage, &map.identity, manifest) {
                Ok(()) | Err(CheckpointDamage::ArenaTooSmall | CheckpointDamage::Device(_)) => {
                    return Err(RecoveryError::NotRetained {
                        until,
                        oldest: manifest.newest_image,
                    });
                }
                Err(damage) => warnings.push(damage.to_string()),
            }
        }
    }
    Err(RecoveryError::Truncated {
        first,
        damage: warnings
            .iter()
            .map(|warning| format!("; {warning}"))
            .collect(),
    })
}

struct Replayer<'a> {
    state: &'a State,
    arena_bytes: u64,
    /// Records up to this one are in the state already.
    after: Lsn,
    until: Lsn,
    applied: u64,
    lsn: Lsn,
}

impl Replayer<'_> {
    fn run(&mut self, scanner: Scanner<'_>, options: &Options) -> Result<Tail, RecoveryError> {
        let appliers = u32::try_from(options.appliers.max(1)).unwrap_or(1);
        if appliers == 1 {
            let mut inline = Inline { state: self.state };
            return self.scan(scanner.in_portions(), options, &mut inline);
        }
        let fault = Mutex::new(None);
        let state = self.state;
        std::thread::scope(|scope| {
            let mut queues = Vec::new();
            for shard in 0..appliers {
                let (queue, jobs) = sync_channel(QUEUED_JOBS);
                let fault = &fault;
                scope.spawn(move || apply_jobs(state, shard, appliers, &jobs, fault));
                queues.push(queue);
            }
            let mut parallel = Parallel {
                queues,
                fault: &fault,
                is_busy: false,
            };
            self.scan(scanner, options, &mut parallel)
        })
    }

    /// Reads and applies the log. What is wrong first in the log is reported, also where it is found last because
    /// others apply records while this thread reads on.
    fn scan(
        &mut self,
        scanner: Scanner<'_>,
        options: &Options,
        appliers: &mut impl Appliers,
    ) -> Result<Tail, RecoveryError> {
        let result = self.scan_to_end(scanner, options, appliers);
        if !matches!(result, Err(RecoveryError::Aborted)) {
            appliers.drain()?;
        }
        result
    }

    fn scan_to_end(
        &mut self,
        mut scanner: Scanner<'_>,
        options: &Options,
        appliers: &mut impl Appliers,
    ) -> Result<Tail, RecoveryError> {
        // Batches that appliers may still be at, oldest first. Their buffers are used again: fresh ones would
        // cost more than what is done with them.
        let mut in_use = VecDeque::new();
        let tail = loop {
            match scanner.next()? {
                Scanned::End(tail) => break tail,
                Scanned::Batch(batch) => {
                    let batch = Arc::new(batch);
                    self.batch(&batch, appliers)?;
                    in_use.push_back(batch);
                    while let Some(batch) =
                        in_use.pop_front_if(|batch| Arc::strong_count(batch) == 1)
                    {
                        if let Some(batch) = Arc::into_inner(batch) {
                            scanner.recycle(batch);
                        }
                    }
                }
            }
            let (done, total) = scanner.progress_bytes();
            if let ControlFlow::Break(()) = options.report(done, total) {
                return Err(RecoveryError::Aborted);
            }
            if self.lsn >= self.until {
                break Tail {
                    last_lsn: self.lsn,
                    segment: 0,
                    position: 0,
                    torn: None,
                };
            }
        };
        appliers.drain()?;
        Ok(tail)
    }

    fn batch(
        &mut self,
        batch: &Arc<Batch>,
        appliers: &mut impl Appliers,
    ) -> Result<(), RecoveryError> {
        let before = if planted!(RecordRepeated) {
            self.after.previous()
        } else {
            self.after
        };
        if let Some(lsns) = batch.plain_lsns()
            && *lsns.start() > before
            && *lsns.end() <= self.until
        {
            self.lsn = *lsns.end();
            self.applied += batch.len() as u64;
            return appliers.apply(batch, 0..batch.len());
        }
        let mut start = 0;
        let mut end = 0;
        for (position, record) in batch.records(0..batch.len()).enumerate() {
            if record.lsn > self.until {
                break;
            }
            end = position + 1;
            if record.lsn <= before {
                start = end;
                continue;
            }
            self.lsn = record.lsn;
            self.applied += 1;
            if record.ops.is_empty() {
                continue;
            }
            let ops: Vec<Op> =
                codec::decode(record.ops).map_err(|error| refuse(record.lsn, &error))?;
            let is_barrier = ops.iter().any(is_barrier);
            if is_barrier {
                appliers.apply(batch, start..position)?;
                appliers.drain()?;
                start = position;
            }
            self.ops(&record, &ops, false)?;
            if is_barrier {
                appliers.apply(batch, start..end)?;
                appliers.drain()?;
                start = end;
                self.ops(&record, &ops, true)?;
            }
        }
        appliers.apply(batch, start..end)
    }

    fn refuse_op(&self, lsn: Lsn, fault: &ReplayFault) -> RecoveryError {
        match fault {
            ReplayFault::Refused(TransactionError::Placement(PlacementError::OutOfSpace {
                ..
            })) => RecoveryError::ArenaTooSmall {
                arena_bytes: self.arena_bytes,
                lsn,
            },
            ReplayFault::Refused(TransactionError::Device(error)) => error.clone().into(),
            _ => refuse(lsn, fault),
        }
    }

    /// Frees come after the writes of their transaction, everything else before.
    fn ops(&self, record: &Record<'_>, ops: &[Op], frees: bool) -> Result<(), RecoveryError> {
        let mut structure = self.state.structure.write();
        for op in ops
            .iter()
            .filter(|op| matches!(op, Op::Free { .. }) == frees)
        {
            self.state
                .replay_op(&mut structure, op, record.lsn)
                .map_err(|error| self.refuse_op(record.lsn, &error))?;
        }
        structure.lsn = record.lsn;
        Ok(())
    }
}

/// Whether everything before must be applied before this operation is: memory changes hands, an id
/// does, or an epoch starts again.
fn is_barrier(op: &Op) -> bool {
    if planted!(BarrierForgotten) {
        return matches!(op, Op::Free { .. });
    }
    matches!(
        op,
        Op::Free { .. } | Op::Transfer { .. } | Op::Disconnect { .. }
    )
}

fn refuse(lsn: Lsn, why: &dyn std::fmt::Display) -> RecoveryError {
    RecoveryError::Record {
        lsn,
        why: why.to_string(),
    }
}

/// Applies the writes of records.
trait Appliers {
    /// Applies, now or soon, the records of `range`.
    fn apply(&mut self, batch: &Arc<Batch>, range: Range<usize>) -> Result<(), RecoveryError>;
    /// Returns when everything is applied.
    fn drain(&mut self) -> Result<(), RecoveryError>;
}

struct Inline<'a> {
    state: &'a State,
}

impl Appliers for Inline<'_> {
    fn apply(&mut self, batch: &Arc<Batch>, range: Range<usize>) -> Result<(), RecoveryError> {
        // SAFETY: the only applier, of a state that nobody else knows of yet.
        unsafe { self.state.apply_records(batch.records(range), 0, 1) }
            .map_err(|(lsn, fault)| refuse(lsn, &fault))
    }

    fn drain(&mut self) -> Result<(), RecoveryError> {
        Ok(())
    }
}

enum Job {
    Apply(Arc<Batch>, Range<usize>),
    Drain(Sender<()>),
}

type Fault = Mutex<Option<(Lsn, ApplyFault)>>;

struct Parallel<'a> {
    queues: Vec<SyncSender<Job>>,
    fault: &'a Fault,
    /// Whether anything was given to the appliers since they last were waited for. A log of small transactions has
    /// more barriers than work between them, and waking every applier to hear of nothing costs more than the work.
    is_busy: bool,
}

impl Appliers for Parallel<'_> {
    fn apply(&mut self, batch: &Arc<Batch>, range: Range<usize>) -> Result<(), RecoveryError> {
        if range.is_empty() {
            return Ok(());
        }
        self.is_busy = true;
        for queue in &self.queues {
            // An applier ends only when its queue does.
            let _ = queue.send(Job::Apply(Arc::clone(batch), range.clone()));
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<(), RecoveryError> {
        if !std::mem::take(&mut self.is_busy) {
            return Ok(());
        }
        let (done, all_done) = channel();
        for queue in &self.queues {
            let _ = queue.send(Job::Drain(done.clone()));
        }
        drop(done);
        // Ends when every applier has dropped its copy of the sender.
        while all_done.recv().is_ok() {}
        match *self.fault.lock() {
            None => Ok(()),
            Some((lsn, fault)) => Err(refuse(lsn, &fault)),
        }
    }
}

fn apply_jobs(state: &State, shard: u32, shards: u32, jobs: &Receiver<Job>, fault: &Fault) {
    let mut failed = false;
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Drain(done) => drop(done),
            Job::Apply(..) if failed => {}
            Job::Apply(batch, range) => {
                let records = batch.records(range);
                // SAFETY: this thread alone applies to the pages of its shard, and nobody reads yet.
                if let Err(error) = unsafe { state.apply_records(records, shard, shards) } {
                    failed = true;
                    let mut first = fault.lock();
                    // The error of the lowest LSN, whichever thread came first.
                    if first.is_none_or(|(lsn, _)| error.0 < lsn) {
                        *first = Some(error);
                    }
                }
            }
        }
    }
}
