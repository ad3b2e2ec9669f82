//! A file that answers who last wrote a byte without reading the log. `docs/FORMAT.md` says the same in tables.
//!
//! It holds, for every page that there ever was, the ranges that one run wrote last, sorted, so that an
//! answer takes a few binary searches. Every row has a checksum of its own: what is read is checked, and nothing else is read.

use std::io;

use super::extents::Extent;
use super::lives::{Life, Lives, Place};
use super::{Blame, BlameError, Followed};
use crate::checksum::crc32c;
use crate::inspect::files::{Head, Inspection};
use crate::inspect::records::{Record, contents};
use crate::inspect::window::Window;
use crate::log::format::{Identity, RECORD_HEADER_BYTES, RecordHeader, Seed};
use crate::log::segment::{parse_segment_name, segment_name};
use crate::lsn::Lsn;
use crate::page::PageId;
use crate::storage::{Storage, StorageFile};

/// First bytes of an index.
pub const INDEX_MAGIC: [u8; 8] = *b"MMSBBLAM";
/// The version this build writes; every other one is refused, as an index can be made anew.
const INDEX_VERSION: u64 = 1;
/// What an index is called until it is whole.
const UNFINISHED_SUFFIX: &str = ".tmp";
/// How much is written at once.
const BATCH_BYTES: usize = 1 << 20;
/// Stands for an LSN that is not known, or that there is not.
const NO_LSN: u64 = u64::MAX;

const HEAD_WORDS: usize = 15;
const ID_WORDS: usize = 3;
const LIFE_WORDS: usize = 11;
const EXTENT_WORDS: usize = 7;

/// What writing an index came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexReport {
    /// Pages that there ever were.
    pub pages: u64,
    /// Ranges in them that one run wrote last.
    pub extents: u64,
    /// Length of the file.
    pub len_bytes: u64,
    /// The last transaction that it knows of.
    pub until: Lsn,
}

/// Length of a row: its words, and its checksum.
const fn row_bytes(words: usize) -> u64 {
    (words as u64 + 1) * 8
}

/// Words and their checksum, which covers where the row stands.
fn encode_row<const N: usize>(words: [u64; N], position: u64, out: &mut Vec<u8>) {
    let start = out.len();
    for word in words {
        out.extend_from_slice(&word.to_le_bytes());
    }
    let crc = row_crc(out.get(start..).unwrap_or_default(), position);
    out.extend_from_slice(&u64::from(crc).to_le_bytes());
}

fn row_crc(words: &[u8], position: u64) -> u32 {
    let mut covered = words.to_vec();
    covered.extend_from_slice(&position.to_le_bytes());
    crc32c(&covered)
}

/// What an index says of the log that it was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    identity: Identity,
    /// Checksum of the names and headers of all segments.
    segments: u64,
    until: Lsn,
    is_broken: bool,
    /// The last record: number of its segment, offset, length, and the checksum of its header.
    end: (u64, u64, u64, u64),
}

impl Inspection<'_> {
    /// Reads the log and writes an index of it as `name` into `storage`, which need not be that of the bus; the bus
    /// ignores the file if it is. Memory in proportion to the ranges of pages that different transactions wrote last.
    ///
    /// # Errors
    /// See [`BlameError`].
    pub fn write_blame_index(
        &self,
        storage: &dyn Storage,
        name: &str,
    ) -> Result<IndexReport, BlameError> {
        let followed = self.follow(Lives::of_all());
        let stamp = self.stamp(&followed)?;
        let unfinished = format!("{name}{UNFINISHED_SUFFIX}");
        let write = || -> io::Result<IndexReport> {
            let mut file = storage.create(&unfinished)?;
            let report = write_rows(&*file, &stamp, &followed)?;
            file.sync()?;
            storage.rename(&unfinished, name)?;
            storage.sync_names()?;
            file = storage.open(name, false)?;
            Ok(IndexReport {
                len_bytes: file.len_bytes()?,
                ..report
            })
        };
        write().map_err(|source| BlameError::Io {
            operation: "write",
            file: name.to_owned(),
            source,
        })
    }

    /// As [`Inspection::blame`], from the index `name` in `storage`. Reads a few kilobytes.
    ///
    /// The answer is checked against the record that it names, so it is never that of another log.
    ///
    /// # Errors
    /// [`BlameError::Index`] when the log went on or was changed since the index was made, or the index is
    /// not intact: make it anew. See [`BlameError`] for the others.
    pub fn blame_with_index(
        &self,
        storage: &dyn Storage,
        name: &str,
        page: PageId,
        offset: u64,
    ) -> Result<Blame, BlameError> {
        let io = |source| BlameError::Io {
            operation: "read",
            file: name.to_owned(),
            source,
        };
        let index = Index::open(storage.open(name, false).map_err(io)?)?;
        self.check_stamp(&index.stamp)?;
        let (life, extent) = match index.find(page, offset)? {
            Some(found) => found,
            None => {
                let until = index.stamp.until;
                let life = self.before_log(page);
                (life.ok_or(BlameError::UnknownPage { page, until })?, None)
            }
        };
        if let Some(extent) = &extent {
            self.check_extent(extent, &life, offset)?;
        }
        let read = Followed {
            lives: Lives::of_all(),
            until: index.stamp.until,
            is_broken: index.stamp.is_broken,
            end: None,
        };
        self.answer(page, offset, &life, extent, &read)
    }

    fn stamp(&self, followed: &Followed) -> Result<Stamp, BlameError> {
        let end = match &followed.end {
            None => (0, 0, 0, 0),
            Some((file, offset, len_bytes)) => {
                let header = self.header_bytes(file, *offset)?;
                let sequence = parse_segment_name(file).unwrap_or(0);
                (sequence, *offset, *len_bytes, crc32c(&header).into())
            }
        };
        Ok(Stamp {
            identity: self.identity.unwrap_or_default(),
            segments: self.segments_crc(),
            until: followed.until,
            is_broken: followed.is_broken,
            end,
        })
    }

    /// Covers which segments there are and what their headers say.
    fn segments_crc(&self) -> u64 {
        let mut covered = Vec::new();
        for file in self.segment_files() {
            covered.extend_from_slice(file.name.as_bytes());
            if let Some(Head::Segment {
                first_lsn,
                durable_lsn,
                created_unix_ns,
                segment_bytes,
                ..
            }) = &file.head
            {
                for word in [first_lsn.0, durable_lsn.0, *created_unix_ns, *segment_bytes] {
                    covered.extend_from_slice(&word.to_le_bytes());
                }
            }
        }
        crc32c(&covered).into()
    }

    fn header_bytes(&self, file: &str, offset: u64) -> Result<Vec<u8>, BlameError> {
        let mut header = vec![0; RECORD_HEADER_BYTES];
        let opened = self.storage.open(file, false);
        let read = opened.and_then(|file| file.read_exact_at(&mut header, offset));
        read.map_err(|source| BlameError::Io {
            operation: "read the log for",
            file: file.to_owned(),
            source,
        })?;
        Ok(header)
    }

    fn check_stamp(&self, stamp: &Stamp) -> Result<(), BlameError> {
        if Some(stamp.identity) != self.identity {
            return Err(useless("it is of another log"));
        }
        if stamp.segments != self.segments_crc() {
            return Err(useless("the log has other segments now"));
        }
        let (sequence, offset, len_bytes, crc) = stamp.end;
        if sequence == 0 {
            return Ok(());
        }
        let file = segment_name(sequence);
        if u64::from(crc32c(&self.header_bytes(&file, offset)?)) != crc {
            return Err(useless("the last record that it knows is another now"));
        }
        let info = self.file(&file)?;
        let after = offset.saturating_add(len_bytes);
        if after + RECORD_HEADER_BYTES as u64 <= info.limit() {
            let seed = Seed::new(&stamp.identity, sequence);
            let next = self.header_bytes(&file, after)?;
            if RecordHeader::decode(&next, &seed).is_some() {
                return Err(useless("the log went on"));
            }
        }
        Ok(())
    }

    /// Whether the record that an extent names is there, intact, and wrote that byte of that page.
    fn check_extent(&self, extent: &Extent, life: &Life, offset: u64) -> Result<(), BlameError> {
        let wrong = || useless("the record that it names is another now");
        let name = segment_name(extent.sequence);
        let opened = self.storage.open(&name, false);
        let mut window = opened.and_then(Window::new).map_err(|_| wrong())?;
        let seed = Seed::new(&self.identity.unwrap_or_default(), extent.sequence);
        let head = window.get(extent.record_offset, RECORD_HEADER_BYTES as u64);
        let header = head
            .and_then(|head| RecordHeader::decode(head, &seed))
            .ok_or_else(wrong)?;
        let body = window.get(
            extent.record_offset + RECORD_HEADER_BYTES as u64,
            header.len_bytes - RECORD_HEADER_BYTES as u64,
        );
        let body = body.ok_or_else(wrong)?;
        let mut record = Record::bare(&name, extent.record_offset, &header);
        let decoded = contents(body, &header, &mut record);
        let wrote = record.runs.iter().any(|run| {
            let at = run.offset..run.offset + run.len_bytes;
            let byte = extent.byte_offset + (offset - extent.start);
            at.contains(&offset)
                && run.place + (offset - run.offset) == byte
                && life.ids.iter().any(|(id, _)| *id == run.page)
        });
        let is_it = crc32c(body) == header.body_crc && header.lsn == extent.lsn;
        if is_it && decoded.is_ok() && wrote {
            Ok(())
        } else {
            Err(wrong())
        }
    }
}

fn useless(why: &str) -> BlameError {
    BlameError::Index {
        why: why.to_owned(),
    }
}

fn lsn_word(lsn: Option<Lsn>) -> u64 {
    lsn.map_or(NO_LSN, |lsn| lsn.0)
}

fn lsn_of(word: u64) -> Option<Lsn> {
    (word != NO_LSN).then_some(Lsn(word))
}

/// Ids sort by position, then by generation.
fn id_key(page: PageId) -> u64 {
    (u64::from(page.index()) << 32) | u64::from(page.generation())
}

fn id_of(key: u64) -> PageId {
    PageId::new((key >> 32) as u32, key as u32)
}

/// Writes rows one after the other.
struct Rows<'a> {
    file: &'a dyn StorageFile,
    batch: Vec<u8>,
    written: u64,
}

impl Rows<'_> {
    fn push<const N: usize>(&mut self, words: [u64; N]) -> io::Result<()> {
        let position = self.written + self.batch.len() as u64;
        encode_row(words, position, &mut self.batch);
        if self.batch.len() >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.batch, self.written)?;
        self.written += self.batch.len() as u64;
        self.batch.clear();
        Ok(())
    }
}

fn write_rows(
    file: &dyn StorageFile,
    stamp: &Stamp,
    followed: &Followed,
) -> io::Result<IndexReport> {
    let lives = || followed.lives.iter();
    let ids: u64 = lives().map(|life| life.ids.len() as u64).sum();
    let extents: u64 = lives().map(|life| life.extents.len() as u64).sum();
    let pages = lives().count() as u64;
    let mut rows = Rows {
        file,
        batch: Vec::new(),
        written: 0,
    };
    rows.push(head_words(stamp, ids, pages, extents))?;
    for (number, life) in lives().enumerate() {
        for (page, lsn) in &life.ids {
            rows.push([id_key(*page), number as u64, lsn_word(*lsn)])?;
        }
    }
    let (mut first_id, mut first_extent) = (0, 0);
    for life in lives() {
        let place = life.allocated.map_or([NO_LSN, 0, 0], |place| {
            [place.lsn.0, place.sequence, place.record_offset]
        });
        rows.push([
            first_id,
            life.ids.len() as u64,
            place[0],
            place[1],
            place[2],
            life.len_bytes.unwrap_or(0),
            u64::from(life.derived.is_some()),
            lsn_word(life.derived.flatten()),
            lsn_word(life.freed),
            first_extent,
            life.extents.len() as u64,
        ])?;
        first_id += life.ids.len() as u64;
        first_extent += life.extents.len() as u64;
    }
    for extent in lives().flat_map(|life| life.extents.iter()) {
        rows.push([
            extent.start,
            extent.end,
            extent.lsn.0,
            extent.sequence,
            extent.record_offset,
            extent.byte_offset,
            u64::from(extent.by_disconnect),
        ])?;
    }
    rows.flush()?;
    Ok(IndexReport {
        pages,
        extents,
        len_bytes: 0,
        until: followed.until,
    })
}

fn head_words(stamp: &Stamp, ids: u64, lives: u64, extents: u64) -> [u64; HEAD_WORDS] {
    let [low, high] = halves(stamp.identity);
    let (sequence, offset, len_bytes, crc) = stamp.end;
    [
        u64::from_le_bytes(INDEX_MAGIC),
        INDEX_VERSION,
        low,
        high,
        stamp.segments,
        stamp.until.0,
        u64::from(stamp.is_broken),
        sequence,
        offset,
        len_bytes,
        crc,
        ids,
        lives,
        extents,
        0,
    ]
}

fn halves(identity: Identity) -> [u64; 2] {
    let whole = u128::from_le_bytes(identity);
    [whole as u64, (whole >> 64) as u64]
}

/// An index that is read from.
struct Index {
    file: Box<dyn StorageFile>,
    stamp: Stamp,
    ids: u64,
    lives: u64,
    extents: u64,
}

impl Index {
    fn open(file: Box<dyn StorageFile>) -> Result<Self, BlameError> {
        let head: [u64; HEAD_WORDS] = read_row(&*file, 0)?;
        let [
            magic,
            version,
            low,
            high,
            segments,
            until,
            broken,
            sequence,
            offset,
            len_bytes,
            crc,
            ids,
            lives,
            extents,
            _,
        ] = head;
        if magic != u64::from_le_bytes(INDEX_MAGIC) {
            return Err(useless("the file is no index"));
        }
        if version != INDEX_VERSION {
            return Err(useless("it has another format version"));
        }
        let whole = u128::from(low) | (u128::from(high) << 64);
        Ok(Self {
            file,
            stamp: Stamp {
                identity: whole.to_le_bytes(),
                segments,
                until: Lsn(until),
                is_broken: broken != 0,
                end: (sequence, offset, len_bytes, crc),
            },
            ids,
            lives,
            extents,
        })
    }

    fn id(&self, number: u64) -> Result<[u64; ID_WORDS], BlameError> {
        read_row(
            &*self.file,
            row_bytes(HEAD_WORDS) + number * row_bytes(ID_WORDS),
        )
    }

    fn extent(&self, number: u64) -> Result<Extent, BlameError> {
        let start = row_bytes(HEAD_WORDS)
            + self.ids * row_bytes(ID_WORDS)
            + self.lives * row_bytes(LIFE_WORDS);
        let row: [u64; EXTENT_WORDS] =
            read_row(&*self.file, start + number * row_bytes(EXTENT_WORDS))?;
        let [
            start,
            end,
            lsn,
            sequence,
            record_offset,
            byte_offset,
            by_disconnect,
        ] = row;
        Ok(Extent {
            start,
            end,
            lsn: Lsn(lsn),
            sequence,
            record_offset,
            byte_offset,
            by_disconnect: by_disconnect != 0,
        })
    }

    /// The page that ever had this id, without its ranges, and the range that holds `offset`.
    fn find(
        &self,
        page: PageId,
        offset: u64,
    ) -> Result<Option<(Life, Option<Extent>)>, BlameError> {
        let key = id_key(page);
        let after = partition_point(self.ids, |number| Ok(self.id(number)?[0] <= key))?;
        let Some(number) = after.checked_sub(1) else {
            return Ok(None);
        };
        let [found, life, _] = self.id(number)?;
        if found != key {
            return Ok(None);
        }
        let start = row_bytes(HEAD_WORDS) + self.ids * row_bytes(ID_WORDS);
        let row: [u64; LIFE_WORDS] = read_row(&*self.file, start + life * row_bytes(LIFE_WORDS))?;
        let [
            first_id,
            ids,
            lsn,
            sequence,
            record_offset,
            len_bytes,
            is_derived,
            derived,
            freed,
            first_extent,
            extents,
        ] = row;
        let mut life = Life::unknown(page);
        life.ids.clear();
        for number in first_id..first_id.saturating_add(ids).min(self.ids) {
            let [key, _, lsn] = self.id(number)?;
            life.ids.push((id_of(key), lsn_of(lsn)));
        }
        life.allocated = lsn_of(lsn).map(|lsn| Place {
            lsn,
            sequence,
            record_offset,
        });
        life.len_bytes = (len_bytes > 0).then_some(len_bytes);
        life.derived = (is_derived != 0).then(|| lsn_of(derived));
        life.freed = lsn_of(freed);
        let extents = extents.min(self.extents);
        let after = partition_point(extents, |number| {
            Ok(self.extent(first_extent + number)?.start <= offset)
        })?;
        let extent = match after.checked_sub(1) {
            None => None,
            Some(number) => {
                Some(self.extent(first_extent + number)?).filter(|extent| offset < extent.end)
            }
        };
        Ok(Some((life, extent)))
    }
}

/// The first of `count` rows for which `is_before` does not hold.
fn partition_point(
    count: u64,
    is_before: impl Fn(u64) -> Result<bool, BlameError>,
) -> Result<u64, BlameError> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if is_before(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

fn read_row<const N: usize>(file: &dyn StorageFile, position: u64) -> Result<[u64; N], BlameError> {
    let mut bytes = vec![0; usize::try_from(row_bytes(N)).unwrap_or(0)];
    file.read_exact_at(&mut bytes, position)
        .map_err(|error| useless(&format!("it cannot be read: {error}")))?;
    let mut words = [0; N];
    let (rows, _) = bytes.as_chunks::<8>();
    for (word, row) in words.iter_mut().zip(rows) {
        *word = u64::from_le_bytes(*row);
    }
    let crc = rows.last().map(|row| u64::from_le_bytes(*row));
    let covered = bytes.get(..N * 8).unwrap_or_default();
    if crc == Some(row_crc(covered, position).into()) {
        Ok(words)
    } else {
        Err(useless("it is damaged"))
    }
}
