//! Segments and records.

use arbitrary::{Result, Unstructured};

use super::check;
use super::operations::{Guess, operation, run};
use super::seal::{self, RecordFields, SEGMENT_HEADER_BYTES};

const SEGMENT_BYTES: usize = 8192;
const MAX_RECORDS: usize = 64;

fn name(sequence: u64) -> String {
    format!("log-{sequence:016x}")
}

/// The bytes of one segment file, as they are and with the right checksum in its header.
pub fn segment(input: &[u8]) {
    if input.len() > 4 * SEGMENT_BYTES {
        return;
    }
    check::log(&[(name(1), input.to_vec())]);
    let mut sealed = input.to_vec();
    seal::seal_segment_header(&mut sealed);
    if sealed != input {
        check::log(&[(name(1), sealed)]);
    }
}

/// A log of sealed records with drawn fields, operations and runs; some segments and records are damaged afterwards.
pub fn record(input: &[u8]) {
    // Whatever the input ends with, what it began with is a log.
    let mut log = Log::new();
    let _ = log.draw(&mut Unstructured::new(input));
    check::log(&log.finish());
}

struct Log {
    files: Vec<(String, Vec<u8>)>,
    present: Vec<u8>,
    sequence: u64,
    /// The LSN of the next transaction.
    lsn: u64,
    guess: Guess,
}

impl Log {
    fn new() -> Self {
        Self {
            files: Vec::new(),
            present: seal::segment_header(1, 1, 0, SEGMENT_BYTES as u64),
            sequence: 1,
            lsn: 1,
            guess: Guess::default(),
        }
    }

    fn draw(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        for _ in 0..MAX_RECORDS {
            if u.is_empty() {
                return Ok(());
            }
            match u.arbitrary::<u8>()? {
                0..=199 => self.transaction(u)?,
                200..=215 => self.other(u)?,
                216..=235 => self.rotate(u)?,
                236..=245 => self.damage(u)?,
                _ => self.anything(u)?,
            }
        }
        Ok(())
    }

    fn push(&mut self, fields: RecordFields, ops: &[u8], stream: &[u8]) {
        let record = seal::record(fields, ops, stream);
        if self.present.len() + record.len() <= SEGMENT_BYTES {
            self.present.extend_from_slice(&record);
        }
    }

    fn fields(&self, kind: u32, run_count: u32, durable_gap: u32) -> RecordFields {
        RecordFields {
            sequence: self.sequence,
            kind,
            lsn: self.lsn,
            durable_gap,
            run_count,
        }
    }

    fn transaction(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let shape: u8 = u.arbitrary()?;
        let mut ops = Vec::new();
        let count = u64::from(shape % 4);
        if count > 0 {
            ops.extend_from_slice(&count.to_le_bytes());
            for _ in 0..count {
                operation(u, &mut self.guess, &mut ops)?;
            }
        }
        let runs = u32::from(shape / 4 % 4);
        let mut stream = Vec::new();
        for _ in 0..runs {
            run(u, &mut stream)?;
        }
        let gap = if shape >= 128 {
            u32::MAX
        } else {
            u32::from(shape >> 4)
        };
        self.push(self.fields(1, runs, gap), &ops, &stream);
        self.lsn += 1;
        Ok(())
    }

    /// Padding or a close.
    fn other(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let kind = 2 + u32::from(u.arbitrary::<bool>()?);
        let fields = RecordFields {
            lsn: self.lsn - 1,
            ..self.fields(kind, 0, 0)
        };
        self.push(
            fields,
            &[],
            &vec![0; usize::from(u.arbitrary::<u8>()? % 64)],
        );
        Ok(())
    }

    /// A record with any fields and any body.
    fn anything(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let keeps_lsn: bool = u.arbitrary()?;
        let fields = RecordFields {
            sequence: self.sequence,
            kind: u32::from(u.arbitrary::<u8>()? % 5),
            lsn: if keeps_lsn { self.lsn } else { u.arbitrary()? },
            durable_gap: u.arbitrary()?,
            run_count: u.arbitrary()?,
        };
        let ops_len = usize::from(u.arbitrary::<u8>()?);
        let ops = u.bytes(ops_len.min(u.len()))?.to_vec();
        let stream_len = usize::from(u.arbitrary::<u8>()?);
        let stream = u.bytes(stream_len.min(u.len()))?.to_vec();
        self.push(fields, &ops, &stream);
        self.lsn += u64::from(keeps_lsn);
        Ok(())
    }

    fn close_segment(&mut self) {
        let mut bytes = std::mem::take(&mut self.present);
        bytes.resize(SEGMENT_BYTES, 0);
        self.files.push((name(self.sequence), bytes));
    }

    /// Goes on in a new segment, whose header may not fit.
    fn rotate(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let how: u8 = u.arbitrary()?;
        self.close_segment();
        self.sequence += if how % 16 == 15 { 2 } else { 1 };
        let first_lsn = if how % 16 == 14 {
            u.arbitrary()?
        } else {
            self.lsn
        };
        let durable_lsn = u64::from(how / 16).min(self.lsn);
        self.present =
            seal::segment_header(self.sequence, first_lsn, durable_lsn, SEGMENT_BYTES as u64);
        match how % 16 {
            13 => seal::put(&mut self.present, 33, &[1]),
            12 => self.present = vec![0; SEGMENT_HEADER_BYTES],
            11 => self.present.truncate(100),
            _ => {}
        }
        Ok(())
    }

    /// Changes a byte of what was written.
    fn damage(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let at = usize::from(u.arbitrary::<u16>()?) % self.present.len().max(1);
        let bits: u8 = u.arbitrary()?;
        if let Some(byte) = self.present.get_mut(at) {
            *byte ^= bits;
        }
        Ok(())
    }

    fn finish(mut self) -> Vec<(String, Vec<u8>)> {
        self.close_segment();
        self.files
    }
}
