//! Files with right checksums around any content.

use crc_fast::{CrcAlgorithm, checksum};

/// The identity of every log here, and of the golden files.
pub const IDENTITY: [u8; 16] = *b"mmsb test log id";
/// Length of a segment header.
pub const SEGMENT_HEADER_BYTES: usize = 4096;

fn crc32c(bytes: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// Overwrites part of a buffer; what does not fit is left out.
pub fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in out.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

/// The header of a segment.
pub fn segment_header(sequence: u64, first_lsn: u64, durable_lsn: u64, len_bytes: u64) -> Vec<u8> {
    let mut out = vec![0; SEGMENT_HEADER_BYTES];
    put(&mut out, 0, b"MMSB-LOG");
    put(&mut out, 8, &1u32.to_le_bytes());
    put(&mut out, 12, &4096u32.to_le_bytes());
    put(&mut out, 16, &IDENTITY);
    put(&mut out, 32, &sequence.to_le_bytes());
    put(&mut out, 40, &first_lsn.to_le_bytes());
    put(&mut out, 48, &durable_lsn.to_le_bytes());
    put(&mut out, 64, &len_bytes.to_le_bytes());
    seal_segment_header(&mut out);
    out
}

/// Puts the right checksum into the header of a segment, if there is room for one.
pub fn seal_segment_header(bytes: &mut [u8]) {
    if let Some(fields) = bytes.get(..80) {
        let crc = crc32c(fields);
        put(bytes, 80, &crc.to_le_bytes());
    }
}

/// What a record says of itself.
#[derive(Clone, Copy, Debug)]
pub struct RecordFields {
    pub sequence: u64,
    pub kind: u32,
    pub lsn: u64,
    pub durable_gap: u32,
    pub run_count: u32,
}

/// A record.
pub fn record(fields: RecordFields, ops: &[u8], stream: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 32];
    out.extend_from_slice(ops);
    out.resize(out.len().next_multiple_of(16), 0);
    out.extend_from_slice(stream);
    out.resize(out.len().next_multiple_of(16), 0);
    let body_crc = crc32c(out.get(32..).unwrap_or_default());
    let units = u32::try_from(out.len() / 16).unwrap_or(u32::MAX);
    let kind_and_ops = (fields.kind << 28) | u32::try_from(ops.len()).unwrap_or_default();
    put(&mut out, 0, &units.to_le_bytes());
    put(&mut out, 8, &fields.lsn.to_le_bytes());
    put(&mut out, 16, &body_crc.to_le_bytes());
    put(&mut out, 20, &fields.run_count.to_le_bytes());
    put(&mut out, 24, &kind_and_ops.to_le_bytes());
    put(&mut out, 28, &fields.durable_gap.to_le_bytes());
    let mut covered = IDENTITY.to_vec();
    covered.extend_from_slice(&fields.sequence.to_le_bytes());
    covered.extend_from_slice(out.get(..4).unwrap_or_default());
    covered.extend_from_slice(&[0; 4]);
    covered.extend_from_slice(out.get(8..32).unwrap_or_default());
    put(&mut out, 4, &crc32c(&covered).to_le_bytes());
    out
}

/// The head of a manifest (`MMSBCKPT`, with its body) or of an image file (`MMSB-IMG`, without).
pub fn checkpoint_head(magic: &[u8; 8], sequence: u64, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 64];
    put(&mut out, 0, magic);
    put(&mut out, 8, &1u32.to_le_bytes());
    put(&mut out, 16, &IDENTITY);
    put(&mut out, 32, &sequence.to_le_bytes());
    put(&mut out, 40, &(body.len() as u64).to_le_bytes());
    put(&mut out, 48, &crc32c(body).to_le_bytes());
    let crc = crc32c(out.get(..60).unwrap_or_default());
    put(&mut out, 60, &crc.to_le_bytes());
    out
}

/// The head of one image.
pub fn image_head(
    page: u64,
    offset: u64,
    lsn: u64,
    sequence: u64,
    len_bytes: u64,
    body: &[u8],
) -> Vec<u8> {
    let mut out = vec![0; 48];
    for (at, word) in [page, offset, len_bytes, lsn, sequence]
        .into_iter()
        .enumerate()
    {
        put(&mut out, at * 8, &word.to_le_bytes());
    }
    put(&mut out, 40, &crc32c(body).to_le_bytes());
    let crc = crc32c(out.get(..44).unwrap_or_default());
    put(&mut out, 44, &crc.to_le_bytes());
    out
}
