//! What there is, in short: each file with what stands in it.

use super::error::InspectError;
use super::files::{FileFault, FileInfo, FileKind, Head, Inspection};
use super::records::{Entry, GapKind, RecordKind};
use super::verdict::Verdict;
use crate::checkpoint::format::ImageFile;
use crate::checkpoint::load;
use crate::log::format::SEGMENT_HEADER_BYTES;
use crate::lsn::Lsn;

/// Everything that can be said of a directory in short.
#[derive(Debug)]
#[non_exhaustive]
pub struct Survey {
    /// Where it is.
    pub place: String,
    /// Who the log is.
    pub identity: Option<[u8; 16]>,
    /// All files by name.
    pub files: Vec<FileSurvey>,
    /// Segments that should be there and are not: the first of each gap.
    pub missing: Vec<String>,
    /// The highest LSN that anything intact names as durable, and what names it.
    pub durable: Option<(Lsn, String)>,
    /// What opening would say.
    pub verdict: Verdict,
}

/// A file, and what stands in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileSurvey {
    /// What its head says.
    pub info: FileInfo,
    /// What is wrong behind its head.
    pub damage: Vec<String>,
    /// Of a segment: what stands in it, without gaps.
    pub spans: Vec<Span>,
    /// Of a segment: its lowest and its highest transaction.
    pub lsns: Option<(Lsn, Lsn)>,
    /// Of a file of images: how many there are, as far as they are intact.
    pub images: u64,
}

/// Some bytes of a segment that are of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Span {
    /// Offset in the file.
    pub offset: u64,
    /// Length.
    pub len_bytes: u64,
    /// What it is.
    pub kind: SpanKind,
    /// Transactions in it.
    pub transactions: u64,
    /// Padding records in it.
    pub paddings: u64,
    /// Notes of a close in it.
    pub closes: u64,
    /// First and last LSN of the transactions in it.
    pub lsns: Option<(Lsn, Lsn)>,
}

/// What the bytes of a span are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpanKind {
    /// The header of the segment.
    Header,
    /// Records, one after the other, that recovery comes to.
    Records,
    /// Intact records behind a gap, which cannot be applied.
    Stranded,
    /// Zeros.
    Zeros,
    /// Bytes that are no record.
    Unknown,
    /// What the operating system refuses to read.
    Unreadable,
    /// What an earlier life of a recycled file left: behind the end of the segment.
    Unused,
}

impl Survey {
    /// Whether everything is as a healthy bus leaves it: opening says nothing, and no file is damaged.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let opens_clean = match &self.verdict {
            Verdict::NoLog => true,
            Verdict::Opens { torn, warnings, .. } => torn.is_none() && warnings.is_empty(),
            Verdict::Refused(_) => false,
        };
        let is_whole = |file: &FileSurvey| match file.info.fault {
            // A file that was being made when the process died, if opening takes it for that.
            None | Some(FileFault::Blank | FileFault::Stale) => file.damage.is_empty(),
            Some(_) => false,
        };
        opens_clean && self.missing.is_empty() && self.files.iter().all(is_whole)
    }
}

impl Inspection<'_> {
    /// Reads everything once, and once more what opening would read.
    ///
    /// # Errors
    /// When the directory cannot be listed any more.
    pub fn survey(&self) -> Result<Survey, InspectError> {
        let mut survey = Survey {
            place: self.storage.describe(),
            identity: self.identity,
            files: self.files.iter().map(FileSurvey::new).collect(),
            missing: Vec::new(),
            durable: None,
            verdict: self.verdict()?,
        };
        self.survey_heads(&mut survey);
        self.survey_log(&mut survey);
        self.survey_images(&mut survey);
        for file in &mut survey.files {
            file.finish();
        }
        judge_tail(&mut survey);
        Ok(survey)
    }

    fn survey_heads(&self, survey: &mut Survey) {
        for file in &self.files {
            if let Some(Head::Segment { durable_lsn, .. } | Head::Manifest { durable_lsn, .. }) =
                &file.head
            {
                claim(&mut survey.durable, *durable_lsn, || {
                    format!("the header of {}", file.name)
                });
            }
        }
    }

    fn survey_log(&self, survey: &mut Survey) {
        let mut current = 0;
        for entry in self.outline() {
            match entry {
                Entry::Missing { file } => survey.missing.push(file),
                Entry::Segment { file, .. } => {
                    let is_it = |survey: &FileSurvey| survey.info.name == file;
                    current = survey.files.iter().position(is_it).unwrap_or(current);
                }
                Entry::Record(record) => {
                    claim(&mut survey.durable, record.durable_lsn, || {
                        format!("the record at offset {} of {}", record.offset, record.file)
                    });
                    let Some(file) = survey.files.get_mut(current) else {
                        continue;
                    };
                    let kind = if record.in_order {
                        SpanKind::Records
                    } else {
                        SpanKind::Stranded
                    };
                    let span = file.span(record.offset, record.len_bytes, kind);
                    match record.kind {
                        RecordKind::Transaction => {
                            span.transactions += 1;
                            span.lsns = Some(widened(span.lsns, record.lsn));
                            file.lsns = Some(widened(file.lsns, record.lsn));
                        }
                        RecordKind::Padding => span.paddings += 1,
                        RecordKind::Close => span.closes += 1,
                    }
                }
                Entry::Gap {
                    offset,
                    len_bytes,
                    kind,
                    ..
                } => {
                    let kind = match kind {
                        GapKind::Zeros => SpanKind::Zeros,
                        GapKind::Unknown => SpanKind::Unknown,
                        GapKind::Unreadable => SpanKind::Unreadable,
                    };
                    if let Some(file) = survey.files.get_mut(current) {
                        file.span(offset, len_bytes, kind);
                    }
                }
            }
        }
    }

    fn survey_images(&self, survey: &mut Survey) {
        let Some(identity) = &self.identity else {
            return;
        };
        for file in &mut survey.files {
            let FileKind::Images(sequence) = file.info.kind else {
                continue;
            };
            if file.info.fault.is_some() {
                continue;
            }
            let whole = ImageFile {
                sequence,
                len_bytes: file.info.len_bytes,
            };
            let mut images = 0;
            let scanned = load::scan_images(self.storage, identity, &whole, |_, _| {
                images += 1;
                Ok(())
            });
            file.images = images;
            file.damage
                .extend(scanned.err().map(|damage| damage.to_string()));
        }
        self.survey_chains(survey);
    }

    /// A chain of images that is not there in whole makes its manifest useless.
    fn survey_chains(&self, survey: &mut Survey) {
        for file in &mut survey.files {
            let Some(Head::Manifest { images, .. }) = &file.info.head else {
                continue;
            };
            for (name, len_bytes) in images {
                let found = self.files.iter().find(|file| file.name == *name);
                if found.is_none_or(|found| found.len_bytes < *len_bytes) {
                    file.damage.push(format!(
                        "it needs {len_bytes} bytes of {name}, which are not there"
                    ));
                }
            }
        }
    }
}

/// What stands where the log stopped is damage unless opening takes it for the end.
fn judge_tail(survey: &mut Survey) {
    let end = survey.files.iter().rposition(|file| {
        let is_ordered = |span: &Span| span.kind == SpanKind::Records;
        file.spans.iter().any(is_ordered)
    });
    for (index, file) in survey.files.iter_mut().enumerate() {
        for span in &file.spans {
            let is_behind_end = Some(index) >= end;
            let what = match span.kind {
                SpanKind::Unreadable => "cannot be read",
                SpanKind::Stranded => "intact records behind a gap",
                // Behind its last record a segment may hold what an earlier life left.
                SpanKind::Unknown if is_behind_end && !ends_well(&survey.verdict) => "no record",
                _ => continue,
            };
            file.damage
                .push(format!("offset {}+{}: {what}", span.offset, span.len_bytes));
        }
    }
}

/// Whether opening finds a clean end.
const fn ends_well(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::NoLog | Verdict::Opens { torn: None, .. })
}

fn widened(range: Option<(Lsn, Lsn)>, lsn: Lsn) -> (Lsn, Lsn) {
    range.map_or((lsn, lsn), |(low, high)| (low.min(lsn), high.max(lsn)))
}

fn claim(highest: &mut Option<(Lsn, String)>, lsn: Lsn, evidence: impl FnOnce() -> String) {
    if lsn > highest.as_ref().map_or(Lsn::ZERO, |(lsn, _)| *lsn) {
        *highest = Some((lsn, evidence()));
    }
}

impl FileSurvey {
    fn new(info: &FileInfo) -> Self {
        Self {
            info: info.clone(),
            damage: Vec::new(),
            spans: Vec::new(),
            lsns: None,
            images: 0,
        }
    }

    /// The span that holds these bytes: the last one, if it is of the same kind.
    fn span(&mut self, offset: u64, len_bytes: u64, kind: SpanKind) -> &mut Span {
        let is_same = |span: &Span| span.kind == kind;
        if !self.spans.last().is_some_and(is_same) {
            self.spans.push(Span {
                offset,
                len_bytes: 0,
                kind,
                transactions: 0,
                paddings: 0,
                closes: 0,
                lsns: None,
            });
        }
        let last = self.spans.len() - 1;
        #[allow(
            clippy::indexing_slicing,
            reason = "the vector has just been made to have an element"
        )]
        let span = &mut self.spans[last];
        span.len_bytes += len_bytes;
        span
    }

    /// Adds the header, and what is behind the end of the segment.
    fn finish(&mut self) {
        if !matches!(self.info.kind, FileKind::Segment(_)) {
            return;
        }
        let (len_bytes, limit) = (self.info.len_bytes, self.info.limit());
        let header = len_bytes.min(SEGMENT_HEADER_BYTES);
        let walked = std::mem::take(&mut self.spans);
        self.span(0, header, SpanKind::Header);
        self.spans.extend(walked);
        if limit < len_bytes {
            let start = limit.max(header);
            self.span(start, len_bytes - start, SpanKind::Unused);
        }
    }
}
