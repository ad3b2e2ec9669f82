//! The bytes of manifests and image files.

use crate::checksum::crc32c;
use crate::codec::{self, CodecError};
use crate::log::TransformId;
use crate::log::format::Identity;
use crate::lsn::Lsn;
use crate::page::Location;

const MANIFEST_MAGIC: [u8; 8] = *b"MMSBCKPT";
const IMAGES_MAGIC: [u8; 8] = *b"MMSB-IMG";
/// The version this build writes. Older ones are readable; newer ones are refused.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// Length of the head of both files.
pub(crate) const FILE_HEAD_BYTES: usize = 64;
/// Length of the head of one image.
pub(crate) const IMAGE_HEAD_BYTES: usize = 48;
/// Images start at multiples of this.
pub(crate) const IMAGE_ALIGN_BYTES: u64 = 16;

/// The fields of the head of a manifest in their order, with their lengths in bytes: for whoever must
/// name the field that a byte belongs to.
pub(crate) const MANIFEST_HEAD_LAYOUT: &[(&str, u64)] = &[
    ("manifest head.magic", 8),
    ("manifest head.version", 4),
    ("manifest head.reserved", 4),
    ("manifest head.identity", 16),
    ("manifest head.sequence", 8),
    ("manifest head.body length", 8),
    ("manifest head.body checksum", 4),
    ("manifest head.reserved", 8),
    ("manifest head.checksum", 4),
];

/// The fields of the head of an image file, as in [`MANIFEST_HEAD_LAYOUT`].
pub(crate) const IMAGES_HEAD_LAYOUT: &[(&str, u64)] = &[
    ("images head.magic", 8),
    ("images head.version", 4),
    ("images head.reserved", 4),
    ("images head.identity", 16),
    ("images head.sequence", 8),
    ("images head.body length", 8),
    ("images head.body checksum", 4),
    ("images head.reserved", 8),
    ("images head.checksum", 4),
];

/// The fields of the head of one image, as in [`MANIFEST_HEAD_LAYOUT`].
pub(crate) const IMAGE_HEAD_LAYOUT: &[(&str, u64)] = &[
    ("image head.page", 8),
    ("image head.offset", 8),
    ("image head.length", 8),
    ("image head.lsn", 8),
    ("image head.sequence", 8),
    ("image head.body checksum", 4),
    ("image head.checksum", 4),
];

const MANIFEST_PREFIX: &str = "checkpoint-";
const IMAGES_PREFIX: &str = "images-";
/// What a file is called until it is whole.
pub(crate) const UNFINISHED_SUFFIX: &str = ".tmp";

/// The name of the manifest of checkpoint `sequence`.
pub(crate) fn manifest_name(sequence: u64) -> String {
    format!("{MANIFEST_PREFIX}{sequence:016x}")
}

/// The name of the image file of checkpoint `sequence`.
pub(crate) fn images_name(sequence: u64) -> String {
    format!("{IMAGES_PREFIX}{sequence:016x}")
}

/// The number in the name of a manifest.
pub(crate) fn parse_manifest_name(name: &str) -> Option<u64> {
    parse_number(name.strip_prefix(MANIFEST_PREFIX)?)
}

/// The number in the name of an image file.
pub(crate) fn parse_images_name(name: &str) -> Option<u64> {
    parse_number(name.strip_prefix(IMAGES_PREFIX)?)
}

fn parse_number(digits: &str) -> Option<u64> {
    let plain = digits.len() == 16
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase());
    plain.then(|| u64::from_str_radix(digits, 16).ok())?
}

/// Everything but page contents, as of [`Manifest::replay_after`].
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub(crate) struct Manifest {
    pub sequence: u64,
    pub created_unix_ns: u64,
    /// Recovery applies the records after this one.
    pub replay_after: Lsn,
    /// The highest LSN that any image stands for: no state before it can be had from this checkpoint.
    pub newest_image: Lsn,
    /// The log was durable up to here when this was written.
    pub durable_lsn: Lsn,
    pub structure_lsn: Lsn,
    pub used: u32,
    /// Free positions of the page table with their last generations, in the order of the free list.
    pub free: Vec<(u32, u32)>,
    /// Positions that will never be used again.
    pub retired: Vec<(u32, u32)>,
    pub pages: Vec<PageEntry>,
    /// Peak footprint, allocations and releases so far: figures that no live page tells.
    pub history: (u64, u64, u64),
    /// Parents before children.
    pub connections: Vec<Connection>,
    /// Page, key, value; by page and key.
    pub metadata: Vec<(u64, String, Vec<u8>)>,
    /// The image files, to be loaded in this order.
    pub images: Vec<ImageFile>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub(crate) struct PageEntry {
    pub page: u64,
    pub offset: u64,
    pub len_bytes: u64,
    pub location: Location,
    pub epoch: u64,
    /// The page is as this transaction left it.
    pub lsn: Lsn,
}

#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub(crate) struct Connection {
    pub child: u64,
    pub transform: TransformId,
    pub parents: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub(crate) struct ImageFile {
    pub sequence: u64,
    pub len_bytes: u64,
}

/// Why the head of a checkpoint file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("it does not start as a checkpoint file does")]
    Foreign,
    #[error(
        "checkpoint format version {0} is newer than this build, which reads up to {FORMAT_VERSION}"
    )]
    Newer(u32),
    #[error("the checksum of its head does not match")]
    Checksum,
    #[error("it belongs to another log")]
    Identity,
    #[error("its body ends early, or does not match its checksum")]
    Body,
}

/// Magic, version, identity, sequence, body length, body checksum; then the checksum of these.
fn encode_head(
    magic: &[u8; 8],
    identity: &Identity,
    sequence: u64,
    body: &[u8],
) -> [u8; FILE_HEAD_BYTES] {
    let mut out = [0; FILE_HEAD_BYTES];
    out[0..8].copy_from_slice(magic);
    out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    out[16..32].copy_from_slice(identity);
    out[32..40].copy_from_slice(&sequence.to_le_bytes());
    out[40..48].copy_from_slice(&(body.len() as u64).to_le_bytes());
    out[48..52].copy_from_slice(&crc32c(body).to_le_bytes());
    let crc = crc32c(&out[..60]);
    out[60..64].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Checks a head; gives the length and the checksum of the body.
fn decode_head(
    bytes: &[u8],
    magic: &[u8; 8],
    identity: &Identity,
    sequence: u64,
) -> Result<(u64, u32), HeadError> {
    let head = bytes
        .first_chunk::<FILE_HEAD_BYTES>()
        .ok_or(HeadError::Foreign)?;
    let half = |at: usize| {
        head.get(at..)
            .and_then(|b| b.first_chunk())
            .map_or(0, |b| u32::from_le_bytes(*b))
    };
    let word = |at: usize| {
        head.get(at..)
            .and_then(|b| b.first_chunk())
            .map_or(0, |b| u64::from_le_bytes(*b))
    };
    if head[0..8] != *magic {
        return Err(HeadError::Foreign);
    }
    if half(8) > FORMAT_VERSION {
        return Err(HeadError::Newer(half(8)));
    }
    if half(60) != crc32c(&head[..60]) || half(8) == 0 {
        return Err(HeadError::Checksum);
    }
    if head[16..32] != *identity || word(32) != sequence {
        return Err(HeadError::Identity);
    }
    Ok((word(40), half(48)))
}

impl Manifest {
    pub(crate) fn encode(&self, identity: &Identity) -> Result<Vec<u8>, CodecError> {
        let mut body = Vec::new();
        codec::encode_into(self, &mut body)?;
        let mut out = encode_head(&MANIFEST_MAGIC, identity, self.sequence, &body).to_vec();
        out.append(&mut body);
        Ok(out)
    }

    pub(crate) fn decode(
        bytes: &[u8],
        identity: &Identity,
        sequence: u64,
    ) -> Result<Self, HeadError> {
        let (len_bytes, crc) = decode_head(bytes, &MANIFEST_MAGIC, identity, sequence)?;
        let body = bytes.get(FILE_HEAD_BYTES..).unwrap_or_default();
        if body.len() as u64 != len_bytes || crc32c(body) != crc {
            return Err(HeadError::Body);
        }
        codec::decode(body).map_err(|_| HeadError::Body)
    }
}

/// The length that a manifest file must have, if its head is good.
pub(crate) fn manifest_len_bytes(head: &[u8], identity: &Identity, sequence: u64) -> Option<u64> {
    let (len_bytes, _) = decode_head(head, &MANIFEST_MAGIC, identity, sequence).ok()?;
    len_bytes.checked_add(FILE_HEAD_BYTES as u64)
}

/// The identity that the head of a checkpoint file names, if the head is intact: also where nobody
/// knows yet which log it should be.
pub(crate) fn head_identity(bytes: &[u8]) -> Option<Identity> {
    let head = bytes.first_chunk::<FILE_HEAD_BYTES>()?;
    let (fields, crc) = head.split_last_chunk::<4>()?;
    let is_ours = fields.starts_with(&MANIFEST_MAGIC) || fields.starts_with(&IMAGES_MAGIC);
    (is_ours && u32::from_le_bytes(*crc) == crc32c(fields))
        .then(|| fields.get(16..32)?.first_chunk().copied())?
}

/// The head of an image file: its body is not covered, every image has checksums of its own.
pub(crate) fn images_head(identity: &Identity, sequence: u64) -> [u8; FILE_HEAD_BYTES] {
    encode_head(&IMAGES_MAGIC, identity, sequence, &[])
}

/// Checks the head of an image file.
pub(crate) fn check_images_head(
    bytes: &[u8],
    identity: &Identity,
    sequence: u64,
) -> Result<(), HeadError> {
    decode_head(bytes, &IMAGES_MAGIC, identity, sequence).map(drop)
}

/// The head of one image: some bytes of one page as of one LSN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ImageHead {
    pub page: u64,
    pub offset: u64,
    pub len_bytes: u64,
    pub lsn: Lsn,
    pub body_crc: u32,
}

impl ImageHead {
    /// The checksum also covers `sequence`, so an image of another file does not pass.
    pub(crate) fn encode(&self, sequence: u64) -> [u8; IMAGE_HEAD_BYTES] {
        let mut out = [0; IMAGE_HEAD_BYTES];
        out[0..8].copy_from_slice(&self.page.to_le_bytes());
        out[8..16].copy_from_slice(&self.offset.to_le_bytes());
        out[16..24].copy_from_slice(&self.len_bytes.to_le_bytes());
        out[24..32].copy_from_slice(&self.lsn.0.to_le_bytes());
        out[32..40].copy_from_slice(&sequence.to_le_bytes());
        out[40..44].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = crc32c(&out[..44]);
        out[44..48].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8], sequence: u64) -> Option<Self> {
        let head = bytes.first_chunk::<IMAGE_HEAD_BYTES>()?;
        let word = |at: usize| {
            head.get(at..)?
                .first_chunk()
                .map(|b| u64::from_le_bytes(*b))
        };
        let half = |at: usize| {
            head.get(at..)?
                .first_chunk()
                .map(|b| u32::from_le_bytes(*b))
        };
        if half(44)? != crc32c(&head[..44]) || word(32)? != sequence {
            return None;
        }
        Some(Self {
            page: word(0)?,
            offset: word(8)?,
            len_bytes: word(16)?,
            lsn: Lsn(word(24)?),
            body_crc: half(40)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layouts_cover_what_is_encoded() {
        let sum = |layout: &[(&str, u64)]| layout.iter().map(|(_, len)| len).sum::<u64>();
        assert_eq!(sum(MANIFEST_HEAD_LAYOUT), FILE_HEAD_BYTES as u64);
        assert_eq!(sum(IMAGES_HEAD_LAYOUT), FILE_HEAD_BYTES as u64);
        assert_eq!(sum(IMAGE_HEAD_LAYOUT), IMAGE_HEAD_BYTES as u64);
    }

    #[test]
    fn a_head_tells_its_identity_only_while_it_is_intact() {
        let identity = *b"0123456789abcdef";
        let mut head = images_head(&identity, 3);
        assert_eq!(head_identity(&head), Some(identity));
        head[20] ^= 1;
        assert_eq!(head_identity(&head), None);
    }

    #[test]
    fn an_image_head_round_trips_and_every_flipped_bit_is_seen() {
        let head = ImageHead {
            page: 1,
            offset: 2,
            len_bytes: 3,
            lsn: Lsn(4),
            body_crc: 5,
        };
        let bytes = head.encode(9);
        assert_eq!(ImageHead::decode(&bytes, 9), Some(head));
        assert_eq!(ImageHead::decode(&bytes, 8), None);
        for bit in 0..IMAGE_HEAD_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ImageHead::decode(&flipped, 9), None, "bit {bit}");
        }
    }
}
