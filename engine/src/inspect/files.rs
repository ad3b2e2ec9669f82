//! Which files there are, and what their heads say.

use std::collections::BTreeMap;
use std::fmt;

use super::error::InspectError;
use super::window::Window;
use crate::checkpoint::CheckpointDamage;
use crate::checkpoint::format::{
    FILE_HEAD_BYTES, HeadError, UNFINISHED_SUFFIX, check_images_head, head_identity, manifest_name,
    parse_images_name, parse_manifest_name,
};
use crate::checkpoint::load;
use crate::log::format::{
    Identity, RecordHeader, SEGMENT_HEADER_BYTES, Seed, SegmentHeader, SegmentHeaderError,
};
use crate::log::mark::{self, MARK_BYTES, MARK_NAME, UNFINISHED_MARK_NAME};
use crate::log::segment::{parse_segment_name, parse_spare_name};
use crate::lsn::Lsn;
use crate::options::Progress;
use crate::storage::Storage;

/// A directory that is looked at as it is. Nothing is locked, changed or repaired, and nothing that
/// is wrong with a file is an error: it is what is told of the file.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let options = mmsb_engine::Options { segment_bytes: 1 << 16, ..Default::default() };
/// # mmsb_engine::Bus::open(directory.path(), options)?.close()?;
/// use mmsb_engine::FileStorage;
/// use mmsb_engine::inspect::Inspection;
///
/// let storage = FileStorage::existing(directory.path())?;
/// let inspection = Inspection::new(&storage)?;
/// for file in inspection.files() {
///     for field in inspection.fields(&file.name)? {
///         println!("{} {}+{} {}", file.name, field.offset, field.len_bytes, field.name);
///     }
/// }
/// # Ok(()) }
/// ```
pub struct Inspection<'a> {
    pub(super) storage: &'a dyn Storage,
    pub(super) files: Vec<FileInfo>,
    pub(super) identity: Option<Identity>,
    pub(super) progress: Option<Box<dyn Fn(Progress) + Send + Sync + 'a>>,
}

/// What a file is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// A segment of the log, with its sequence number.
    Segment(u64),
    /// A file that waits to become a segment, with its number.
    Spare(u64),
    /// The manifest of the checkpoint with this number.
    Manifest(u64),
    /// The page images that the checkpoint with this number added.
    Images(u64),
    /// The mark of the last close.
    CloseMark,
    /// A manifest, or a mark of a close, that was never finished; opening removes it.
    Unfinished,
    /// None of the engine's; opening ignores it.
    Other,
}

/// A file, and what its head says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileInfo {
    /// Its name in the directory.
    pub name: String,
    /// What it is, by its name.
    pub kind: FileKind,
    /// Its length.
    pub len_bytes: u64,
    /// What its head says, if that is intact and the file belongs here.
    pub head: Option<Head>,
    /// What is wrong with it, as far as its head tells (for a manifest: all of it).
    pub fault: Option<FileFault>,
}

/// What the head of a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Head {
    /// Of a segment.
    Segment {
        /// Format version: 2 if it may hold compressed transactions, else 1.
        version: u32,
        /// LSN of the first transaction in it.
        first_lsn: Lsn,
        /// Everything up to this LSN was durable before the segment was begun.
        durable_lsn: Lsn,
        /// When it was begun, in nanoseconds since 1970.
        created_unix_ns: u64,
        /// The length that it was given; the file may be shorter or longer.
        segment_bytes: u64,
    },
    /// Of a manifest, and the figures in its body.
    Manifest {
        /// Recovery applies the records after this LSN.
        replay_after: Lsn,
        /// The highest LSN that any of its images stands for.
        newest_image: Lsn,
        /// Everything up to this LSN was durable when it was written.
        durable_lsn: Lsn,
        /// When it was written, in nanoseconds since 1970.
        created_unix_ns: u64,
        /// Pages that there were.
        pages: u64,
        /// The image files that it needs, with the length that each must have at least, in the order in which they are loaded.
        images: Vec<(String, u64)>,
    },
    /// Of a file of images.
    Images,
    /// Of the mark of a close.
    CloseMark {
        /// Where the log ended.
        lsn: Lsn,
    },
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileFault {
    /// The operating system refuses to read it; its words.
    Unreadable(String),
    /// It is too short for a header, or zeros stand where one should: it was being made, or was wiped.
    Blank,
    /// Its header is that of its earlier life as another segment: it was being recycled.
    Stale,
    /// It belongs to another log, or is no such file at all; why.
    Foreign(String),
    /// A newer version wrote it; which.
    Newer(String),
    /// It is not intact; what is wrong.
    Damaged(String),
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => write!(f, "cannot be read: {why}"),
            Self::Blank => f.write_str("has no header: zeros, or too short"),
            Self::Stale => f.write_str("has the header of its earlier life as another segment"),
            Self::Foreign(why) => write!(f, "does not belong to this log: {why}"),
            Self::Newer(why) => f.write_str(why),
            Self::Damaged(why) => write!(f, "damaged: {why}"),
        }
    }
}

impl FileInfo {
    /// Where the segment ends: a recycled file may be longer, and what follows is of its earlier life.
    pub(super) fn limit(&self) -> u64 {
        match (&self.head, &self.fault) {
            (Some(Head::Segment { segment_bytes, .. }), _) => self.len_bytes.min(*segment_bytes),
            // Nobody here knows what stands in it.
            (_, Some(FileFault::Newer(_))) => self.len_bytes.min(SEGMENT_HEADER_BYTES),
            _ => self.len_bytes,
        }
    }
}

impl fmt::Debug for Inspection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspection")
            .field("storage", &self.storage.describe())
            .finish_non_exhaustive()
    }
}

impl<'a> Inspection<'a> {
    /// Lists the files and reads their heads.
    ///
    /// # Errors
    /// [`InspectError::Io`] when the directory cannot be listed. A file that cannot be read is no error: its
    /// [`FileInfo::fault`] says so.
    pub fn new(storage: &'a dyn Storage) -> Result<Self, InspectError> {
        let names = storage.list().map_err(|source| InspectError::Io {
            file: storage.describe(),
            source,
        })?;
        let raw: Vec<Raw> = names
            .into_iter()
            .map(|name| Raw::read(storage, name))
            .collect();
        let identity = find_identity(storage, &raw);
        let mut files: Vec<FileInfo> = raw
            .into_iter()
            .map(|raw| raw.judge(storage, identity.as_ref()))
            .collect();
        // Names sort as numbers do, so each kind is in its order.
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            storage,
            files,
            identity,
            progress: None,
        })
    }

    /// Tells `progress` how much of the log was read, about once a MiB, whenever the log is walked.
    #[must_use]
    pub fn observed(mut self, progress: impl Fn(Progress) + Send + Sync + 'a) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// The files, by name.
    #[must_use]
    pub fn files(&self) -> &[FileInfo] {
        &self.files
    }

    /// Who the log is: what most of the intact heads say or, if there are none, what a damaged header says and the
    /// records behind it confirm.
    #[must_use]
    pub const fn identity(&self) -> Option<[u8; 16]> {
        self.identity
    }

    /// Some bytes of a file, as they are.
    ///
    /// # Errors
    /// When they cannot all be read.
    pub fn read(&self, file: &str, offset: u64, len_bytes: u64) -> Result<Vec<u8>, InspectError> {
        let info = self.file(file)?;
        let failed = || InspectError::io(file);
        // What the caller believes to be there must not make us allocate more than there is.
        if offset.saturating_add(len_bytes) > info.len_bytes {
            return Err(failed()(std::io::ErrorKind::UnexpectedEof.into()));
        }
        let mut bytes = vec![0; usize::try_from(len_bytes).unwrap_or_default()];
        let opened = self.storage.open(file, false);
        opened
            .and_then(|file| file.read_exact_at(&mut bytes, offset))
            .map_err(failed())?;
        Ok(bytes)
    }

    pub(super) fn file(&self, name: &str) -> Result<&FileInfo, InspectError> {
        let found = self.files.iter().find(|file| file.name == name);
        found.ok_or_else(|| InspectError::NoFile {
            file: name.to_owned(),
        })
    }
}

/// The first bytes of a file, before it is known which log it should belong to.
struct Raw {
    name: String,
    kind: FileKind,
    len_bytes: u64,
    head: Result<Vec<u8>, String>,
}

impl Raw {
    fn read(storage: &dyn Storage, name: String) -> Self {
        let kind = kind_of(&name);
        let wanted = match kind {
            FileKind::Segment(_) => SEGMENT_HEADER_BYTES,
            FileKind::Manifest(_) | FileKind::Images(_) => FILE_HEAD_BYTES as u64,
            FileKind::CloseMark => MARK_BYTES as u64 + 1,
            _ => 0,
        };
        let mut len_bytes = 0;
        let mut read = || {
            let file = storage.open(&name, false)?;
            len_bytes = file.len_bytes()?;
            let mut head = vec![0; usize::try_from(len_bytes.min(wanted)).unwrap_or_default()];
            file.read_exact_at(&mut head, 0)?;
            Ok(head)
        };
        let head = read().map_err(|error: std::io::Error| error.to_string());
        Self {
            name,
            kind,
            len_bytes,
            head,
        }
    }

    /// The identity that an intact head names.
    fn identity(&self) -> Option<Identity> {
        let head = self.head.as_ref().ok()?;
        match self.kind {
            FileKind::Segment(_) => Some(SegmentHeader::decode(head).ok()?.identity),
            FileKind::Manifest(_) | FileKind::Images(_) => head_identity(head),
            _ => None,
        }
    }

    fn judge(self, storage: &dyn Storage, identity: Option<&Identity>) -> FileInfo {
        let (head, fault) = match (&self.head, self.kind) {
            (Err(why), _) => (None, Some(FileFault::Unreadable(why.clone()))),
            (Ok(head), FileKind::Segment(sequence)) => {
                split(segment_head(head, sequence, identity))
            }
            (Ok(_), FileKind::Manifest(sequence)) => {
                split(manifest_head(storage, sequence, identity))
            }
            (Ok(head), FileKind::Images(sequence)) => split(images_head(head, sequence, identity)),
            (Ok(head), FileKind::CloseMark) => match mark::decode(head) {
                Ok((of, lsn)) if identity.is_none_or(|identity| of == *identity) => {
                    (Some(Head::CloseMark { lsn }), None)
                }
                Ok(_) => {
                    let why = "it has another identity".to_owned();
                    (None, Some(FileFault::Foreign(why)))
                }
                Err(why) => (None, Some(FileFault::Damaged(why.to_owned()))),
            },
            (Ok(_), FileKind::Spare(_) | FileKind::Unfinished | FileKind::Other) => (None, None),
        };
        FileInfo {
            name: self.name,
            kind: self.kind,
            len_bytes: self.len_bytes,
            head,
            fault,
        }
    }
}

fn split(judged: Result<Head, FileFault>) -> (Option<Head>, Option<FileFault>) {
    match judged {
        Ok(head) => (Some(head), None),
        Err(fault) => (None, Some(fault)),
    }
}

fn kind_of(name: &str) -> FileKind {
    if name == MARK_NAME {
        return FileKind::CloseMark;
    }
    let unfinished = name == UNFINISHED_MARK_NAME
        || name
            .strip_suffix(UNFINISHED_SUFFIX)
            .is_some_and(|name| parse_manifest_name(name).is_some());
    if unfinished {
        return FileKind::Unfinished;
    }
    parse_segment_name(name)
        .map(FileKind::Segment)
        .or_else(|| parse_spare_name(name).map(FileKind::Spare))
        .or_else(|| parse_manifest_name(name).map(FileKind::Manifest))
        .or_else(|| parse_images_name(name).map(FileKind::Images))
        .unwrap_or(FileKind::Other)
}

/// A file of another log must not decide who this log is, so most votes win, and the oldest file among equals.
fn find_identity(storage: &dyn Storage, files: &[Raw]) -> Option<Identity> {
    let mut votes: BTreeMap<Identity, (usize, std::cmp::Reverse<usize>)> = BTreeMap::new();
    // Segments first: a checkpoint holds nothing that the log does not.
    let is_segment = |raw: &&Raw| matches!(raw.kind, FileKind::Segment(_));
    let segments = files.iter().filter(is_segment);
    let others = files.iter().filter(|raw| !is_segment(raw));
    for (place, identity) in segments.chain(others).filter_map(Raw::identity).enumerate() {
        let vote = votes
            .entry(identity)
            .or_insert((0, std::cmp::Reverse(place)));
        vote.0 += 1;
    }
    let elected = votes.into_iter().max_by_key(|(_, vote)| *vote);
    elected.map(|(identity, _)| identity).or_else(|| {
        let confirmed = |raw: &Raw| confirmed_identity(storage, raw);
        files.iter().find_map(confirmed)
    })
}

/// The identity in a damaged segment header, if the first record behind it carries its seed.
fn confirmed_identity(storage: &dyn Storage, raw: &Raw) -> Option<Identity> {
    let FileKind::Segment(sequence) = raw.kind else {
        return None;
    };
    let identity: Identity = *raw.head.as_ref().ok()?.get(16..32)?.first_chunk()?;
    let mut window = Window::new(storage.open(&raw.name, false).ok()?).ok()?;
    let record = window.get(SEGMENT_HEADER_BYTES, 32)?;
    RecordHeader::decode(record, &Seed::new(&identity, sequence)).map(|_| identity)
}

fn segment_head(
    bytes: &[u8],
    sequence: u64,
    identity: Option<&Identity>,
) -> Result<Head, FileFault> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Err(FileFault::Blank);
    }
    let header = SegmentHeader::decode(bytes).map_err(|error| {
        let why = error.to_string();
        match error {
            SegmentHeaderError::Foreign => FileFault::Foreign(why),
            // Only an intact header can be believed; a rotten version says nothing of what is behind it.
            SegmentHeaderError::Newer(_) if SegmentHeader::is_intact(bytes) => {
                FileFault::Newer(why)
            }
            SegmentHeaderError::Newer(_) => {
                FileFault::Damaged(format!("{why}, and its checksum does not match"))
            }
            SegmentHeaderError::Checksum => FileFault::Damaged(why),
        }
    })?;
    if identity != Some(&header.identity) {
        return Err(FileFault::Foreign(
            "its header has another identity".to_owned(),
        ));
    }
    if header.sequence < sequence {
        // A recycled file keeps the header of its earlier life until the new one is written.
        return Err(FileFault::Stale);
    }
    if header.sequence != sequence {
        return Err(FileFault::Foreign(
            "its header has another sequence number".to_owned(),
        ));
    }
    Ok(Head::Segment {
        version: header.version,
        first_lsn: header.first_lsn,
        durable_lsn: header.durable_lsn,
        created_unix_ns: header.created_unix_ns,
        segment_bytes: header.segment_bytes,
    })
}

fn manifest_head(
    storage: &dyn Storage,
    sequence: u64,
    identity: Option<&Identity>,
) -> Result<Head, FileFault> {
    let unknown = || FileFault::Damaged("nothing says which log it belongs to".to_owned());
    let manifest =
        load::manifest(storage, identity.ok_or_else(unknown)?, sequence).map_err(|damage| {
            match damage {
                CheckpointDamage::Io { source, .. } => FileFault::Unreadable(source.to_string()),
                CheckpointDamage::Newer { why, .. } => FileFault::Newer(why),
                CheckpointDamage::Damaged { why, .. } => FileFault::Damaged(why),
                CheckpointDamage::ArenaTooSmall | CheckpointDamage::Device(_) => {
                    FileFault::Damaged(damage.to_string())
                }
            }
        })?;
    if manifest.sequence != sequence {
        return Err(FileFault::Foreign(format!(
            "its body is that of {}",
            manifest_name(manifest.sequence)
        )));
    }
    Ok(Head::Manifest {
        replay_after: manifest.replay_after,
        newest_image: manifest.newest_image,
        durable_lsn: manifest.durable_lsn,
        created_unix_ns: manifest.created_unix_ns,
        pages: manifest.pages.len() as u64,
        images: manifest
            .images
            .iter()
            .map(|file| {
                let name = crate::checkpoint::format::images_name(file.sequence);
                (name, file.len_bytes)
            })
            .collect(),
    })
}

fn images_head(
    bytes: &[u8],
    sequence: u64,
    identity: Option<&Identity>,
) -> Result<Head, FileFault> {
    let unknown = || FileFault::Damaged("nothing says which log it belongs to".to_owned());
    let checked = check_images_head(bytes, identity.ok_or_else(unknown)?, sequence);
    checked.map(|()| Head::Images).map_err(|error| {
        let why = error.to_string();
        match error {
            HeadError::Foreign | HeadError::Identity => FileFault::Foreign(why),
            HeadError::Newer(_) => FileFault::Newer(why),
            HeadError::Checksum | HeadError::Body => FileFault::Damaged(why),
        }
    })
}
