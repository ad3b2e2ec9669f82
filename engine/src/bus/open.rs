//! Opening: recover what there is, or create.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::Bus;
use super::source::LogSource;
use crate::advice::advice;
use crate::checkpoint::Checkpoints;
use crate::checkpoint::format::{UNFINISHED_SUFFIX, parse_images_name, parse_manifest_name};
use crate::clock::{Clock, SystemClock};
use crate::device::DeviceError;
use crate::event::Publisher;
use crate::log::error::LogError;
use crate::log::format::{Identity, SegmentHeader};
use crate::log::mark::UNFINISHED_MARK_NAME;
use crate::log::renew::renew;
use crate::log::segment::{
    Segment, SegmentMaker, Spare, fill_with_zeros, parse_segment_name, parse_spare_name,
    segment_name,
};
use crate::log::tail::Torn;
use crate::log::writer::{FIRST_POSITION, LogWriter, Resume};
use crate::lsn::Lsn;
use crate::options::Options;
use crate::planted::planted;
use crate::recovery::{Rebuilt, RecoveryError, rebuild};
use crate::state::State;
use crate::state::device::PageSource;
use crate::storage::{FileStorage, Storage};
use crate::sync::Mutex;

/// Shortest segment: the header, and room for something.
const MIN_SEGMENT_BYTES: u64 = 8 * 1024;

/// Why a bus cannot be opened. The files are as they were.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another bus has the directory open.
    #[error("{0}; close it first")]
    InUse(String),
    /// The operating system refused.
    #[error("cannot {operation} {file}: {source}{}", advice(source.kind()))]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Name of the file or the directory.
        file: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// What is there cannot be recovered.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// An option has a value that it cannot have.
    #[error("option {option} is {value}; {allowed}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// The value given.
        value: u64,
        /// What is allowed.
        allowed: &'static str,
    },
}

impl OpenError {
    /// A stable name for the kind of error, for scenarios and scripts.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::InUse(_) => "open.in-use",
            Self::Io { .. } => "open.io",
            Self::Option { .. } => "open.option",
            Self::Recovery(error) => error.kind(),
        }
    }
}

impl RecoveryError {
    /// A stable name for the kind of error, for scenarios and scripts.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Log(LogError::Damaged { .. } | LogError::DamagedHeader { .. }) => "log.damaged",
            Self::Log(LogError::Foreign { .. }) => "log.foreign",
            Self::Log(LogError::Newer { .. }) => "log.newer",
            Self::Log(LogError::Missing { .. }) => "log.missing",
            Self::Log(LogError::Io { .. }) => "log.io",
            Self::NoLog { .. } => "log.none",
            Self::Truncated { .. } => "log.truncated",
            Self::NotRetained { .. } => "replay.not-retained",
            Self::BeyondEnd { .. } => "replay.beyond-end",
            Self::Record { .. } => "log.record",
            Self::Arena(_) => "memory.arena",
            Self::ArenaTooSmall { .. } => "open.option",
            Self::Device(error) => error.kind(),
            Self::Aborted => "open.aborted",
        }
    }
}

/// What opening found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenReport {
    /// There was nothing: the bus is new.
    pub created: bool,
    /// The state is as of this LSN.
    pub last_lsn: Lsn,
    /// The LSN after which the log was applied, if a checkpoint was used.
    pub checkpoint: Option<Lsn>,
    /// Transactions applied from the log.
    pub applied: u64,
    /// What a crash had left behind the end of the log, and was cut off.
    pub torn: Option<Torn>,
    /// What was found wrong and could be done without.
    pub warnings: Vec<String>,
}

impl Bus {
    /// Opens the bus in `directory`; creates both if they do not exist.
    ///
    /// Recovery takes the newest checkpoint that is intact and the log after it, and recomputes all
    /// derived pages. What a crash tore off the end of the log is cut and reported; damage is refused.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(directory: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        let storage = FileStorage::create(directory.as_ref()).map_err(|source| OpenError::Io {
            operation: "create",
            file: directory.as_ref().display().to_string(),
            source,
        })?;
        Self::open_with(Arc::new(storage), Arc::new(SystemClock), options)
    }

    /// As [`Bus::open`], with a storage and a clock of the caller's.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_with(
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Result<Self, OpenError> {
        if planted!(DescriptorLeaked) {
            forget_descriptor();
        }
        if options.segment_bytes < MIN_SEGMENT_BYTES || !options.segment_bytes.is_multiple_of(4096)
        {
            return Err(OpenError::Option {
                option: "segment_bytes",
                value: options.segment_bytes,
                allowed: "it must be a multiple of 4096, from 8192",
            });
        }
        let lock = storage.lock().map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::InUse(error.to_string()),
            _ => failed("lock", storage.describe())(error),
        })?;
        // What can be read now may be in the operating system's cache alone: nothing may build on it before
        // it is on the disk.
        sync_log(&*storage)?;
        let rebuilt = rebuild(&*storage, &options, None, false)?;
        let parts = match rebuilt {
            Some(rebuilt) => resume(&storage, &clock, &options, rebuilt)?,
            None => create(&storage, &clock, &options)?,
        };
        let (state, log) = (Arc::new(parts.state), Arc::new(parts.log));
        let files = Arc::default();
        let source = Arc::new(LogSource {
            state: Arc::downgrade(&state),
            storage: Arc::clone(&storage),
            log: Arc::clone(&log),
            options: options.clone(),
            files: Arc::clone(&files),
        });
        bring_back(&state, source).map_err(RecoveryError::from)?;
        Ok(Self {
            state,
            log,
            files,
            publisher: Publisher::default(),
            marked_lsn: parts.marked_lsn,
            checkpoints: Mutex::new(parts.checkpoints),
            report: parts.report,
            storage,
            clock,
            options,
            abandoned: false,
            _lock: lock,
        })
    }
}

/// Has evicted pages come from `source` from here on. Where some did not fit in device memory, derived pages are computed now.
fn bring_back(state: &State, source: Arc<dyn PageSource>) -> Result<(), DeviceError> {
    let source = state.source.get_or_init(|| source);
    let Some(space) = state.device.get() else {
        return Ok(());
    };
    space.attach(Arc::clone(source));
    if space.has_evicted() {
        space.bring_derived()?;
        state.recompute_all();
    }
    Ok(())
}

struct Parts {
    state: State,
    log: LogWriter,
    checkpoints: Checkpoints,
    report: OpenReport,
    marked_lsn: Lsn,
}

fn failed(operation: &'static str, file: String) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io {
        operation,
        file,
        source,
    }
}

fn sync_log(storage: &dyn Storage) -> Result<(), OpenError> {
    let names = storage.list().map_err(failed("list", storage.describe()))?;
    for name in names
        .iter()
        .filter(|name| parse_segment_name(name).is_some())
    {
        let file = storage
            .open(name, true)
            .map_err(failed("open", name.clone()))?;
        file.sync().map_err(failed("sync", name.clone()))?;
    }
    storage
        .sync_names()
        .map_err(failed("sync", storage.describe()))
}

fn create(
    storage: &Arc<dyn Storage>,
    clock: &Arc<dyn Clock>,
    options: &Options,
) -> Result<Parts, OpenError> {
    let created_unix_ns = clock.now_unix_ns();
    let identity = options
        .identity
        .unwrap_or_else(|| draw_identity(created_unix_ns, &storage.describe()));
    let maker = SegmentMaker {
        storage: Arc::clone(storage),
        version: options.segment_version(),
        identity,
        segment_bytes: options.segment_bytes,
        prefill: options.prefill,
    };
    let header = SegmentHeader {
        version: maker.version,
        identity,
        sequence: 1,
        first_lsn: Lsn(1),
        durable_lsn: Lsn::ZERO,
        created_unix_ns,
        segment_bytes: options.segment_bytes,
    };
    let name = segment_name(1);
    let segment = maker
        .open(header, None, options.prefill)
        .map_err(failed("create", name.clone()))?;
    begin_segment(storage, &segment).map_err(failed("write", name))?;
    Ok(Parts {
        state: State::new(options).map_err(RecoveryError::from)?,
        log: LogWriter::new(
            maker,
            Arc::clone(clock),
            Resume {
                segment,
                position: FIRST_POSITION,
                last_lsn: Lsn::ZERO,
                spares: VecDeque::new(),
                next_spare: 1,
            },
        ),
        checkpoints: Checkpoints {
            next_sequence: 1,
            kept: Vec::new(),
            identity,
            is_broken: false,
        },
        report: OpenReport {
            created: true,
            ..OpenReport::default()
        },
        marked_lsn: Lsn::ZERO,
    })
}

/// Writes the header of the first segment, and makes file and name durable.
fn begin_segment(storage: &Arc<dyn Storage>, segment: &Segment) -> io::Result<()> {
    segment.file.write_all_at(&segment.header.encode(), 0)?;
    segment.file.sync()?;
    storage.sync_names()
}

/// Two logs get the same identity only if they are created in one place in the same nanosecond.
fn draw_identity(created_unix_ns: u64, place: &str) -> Identity {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&created_unix_ns.to_le_bytes());
    hasher.update(place.as_bytes());
    let mut identity = [0; 16];
    hasher.finalize_xof().fill(&mut identity);
    identity
}

fn resume(
    storage: &Arc<dyn Storage>,
    clock: &Arc<dyn Clock>,
    options: &Options,
    rebuilt: Rebuilt,
) -> Result<Parts, OpenError> {
    let report = OpenReport {
        created: false,
        last_lsn: rebuilt.lsn,
        checkpoint: rebuilt
            .checkpoint
            .as_ref()
            .map(|manifest| manifest.replay_after),
        applied: rebuilt.applied,
        torn: rebuilt.tail.torn.clone(),
        warnings: rebuilt.warnings.clone(),
    };
    let segment = cut(&**storage, &rebuilt)?;
    renew(
        &**storage,
        &rebuilt.map,
        &rebuilt.tail,
        rebuilt.known_durable,
    )
    .map_err(|(file, source)| failed("rewrite", file)(source))?;
    let (spares, next_spare) = spares(&**storage, options.segment_bytes)?;
    tidy(&**storage, &rebuilt);
    let maker = SegmentMaker {
        storage: Arc::clone(storage),
        version: options.segment_version(),
        identity: rebuilt.map.identity,
        segment_bytes: options.segment_bytes,
        prefill: options.prefill,
    };
    let resume = Resume {
        segment,
        position: rebuilt.tail.position,
        last_lsn: rebuilt.lsn,
        spares,
        next_spare,
    };
    Ok(Parts {
        log: LogWriter::new(maker, Arc::clone(clock), resume),
        marked_lsn: rebuilt.closed.unwrap_or_default(),
        checkpoints: Checkpoints::found(&rebuilt),
        state: rebuilt.state,
        report,
    })
}

/// Makes the log end where its last good record does, so that no later reading can mistake what a
/// crash left for something that was committed. Touches nothing if the log ended well.
fn cut(storage: &dyn Storage, rebuilt: &Rebuilt) -> Result<Arc<Segment>, OpenError> {
    let tail = &rebuilt.tail;
    let Some(last) = rebuilt.map.segments.get(tail.segment) else {
        return Err(RecoveryError::NoLog {
            place: storage.describe(),
        }
        .into());
    };
    // The newest first, each made durable before the next: a crash in between leaves a shorter log, not
    // one with a gap.
    let later = rebuilt.map.segments.iter().skip(tail.segment + 1);
    let stranded = rebuilt.map.stranded.iter().map(|stranded| &stranded.name);
    let dropped: Vec<&String> = later.map(|segment| &segment.name).chain(stranded).collect();
    for name in dropped.into_iter().rev() {
        storage
            .remove(name)
            .map_err(failed("remove", name.clone()))?;
        storage
            .sync_names()
            .map_err(failed("sync", storage.describe()))?;
    }
    let file = storage
        .open(&last.name, true)
        .map_err(failed("open", last.name.clone()))?;
    if tail.torn.is_some() {
        fill_with_zeros(&*file, tail.position, last.len_bytes)
            .map_err(failed("cut", last.name.clone()))?;
    }
    Ok(Segment::new(file, last.header))
}

/// Prepared segments from before. One that does not have its full length was being made.
fn spares(storage: &dyn Storage, segment_bytes: u64) -> Result<(VecDeque<Spare>, u64), OpenError> {
    let names = storage.list().map_err(failed("list", storage.describe()))?;
    let mut spares = VecDeque::new();
    let mut next = 1;
    for name in names {
        let Some(number) = parse_spare_name(&name) else {
            continue;
        };
        next = next.max(number.saturating_add(1));
        let len_bytes = storage
            .open(&name, false)
            .and_then(|file| file.len_bytes())
            .map_err(failed("open", name.clone()))?;
        // One that was not finished, or that is for other lengths, would only stand in the way.
        if len_bytes < segment_bytes {
            let _ = storage.remove(&name);
            continue;
        }
        spares.push_back(Spare { name, len_bytes });
    }
    Ok((spares, next))
}

/// Removes what an interrupted checkpoint left. Failing to is no reason not to open.
fn tidy(storage: &dyn Storage, rebuilt: &Rebuilt) {
    let Ok(names) = storage.list() else {
        return;
    };
    let is_used = |sequence: u64| {
        let mut images = rebuilt
            .manifests
            .iter()
            .flat_map(|manifest| &manifest.images);
        images.any(|file| file.sequence == sequence)
    };
    for name in names {
        let unfinished = name == UNFINISHED_MARK_NAME
            || name
                .strip_suffix(UNFINISHED_SUFFIX)
                .is_some_and(|name| parse_manifest_name(name).is_some());
        // An image file may belong to a damaged manifest, which somebody may want to look at.
        let orphan = rebuilt.warnings.is_empty()
            && parse_images_name(&name).is_some_and(|sequence| !is_used(sequence));
        if unfinished || orphan {
            let _ = storage.remove(&name);
        }
    }
}

/// Forgets a descriptor now and then: seldom enough that a run ends before there are none left.
fn forget_descriptor() {
    static OPENS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let nth = OPENS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    if nth.is_multiple_of(64)
        && let Ok(file) = std::fs::File::open("/dev/null")
    {
        std::mem::forget(file);
    }
}
