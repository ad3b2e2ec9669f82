//! Long streams of runs, compressed: the body of a record of kind *compressed transaction* behind its operations.
//!
//! ```text
//! length of the stream (4)  length of the frame (4)  one zstd frame  zeros to a multiple of 16
//! ```
//!
//! Whoever reads this believes nothing of it: the checksum of a record says that it is what was written, not that it
//! was written by us. So lengths are bounded before memory is asked for, the frame must itself name the length
//! that stands before it, and no more than that is ever written.

use super::format::{RECORD_ALIGN_BYTES, align_up};

/// Both lengths before the frame.
pub(crate) const PACKED_HEAD_BYTES: usize = 8;
/// Longer streams are stored as they are, so a record takes no more memory than this to read.
pub(crate) const MAX_UNPACKED_BYTES: u64 = 1 << 28;
/// Streams that are shorter are not worth the time.
#[cfg(feature = "zstd")]
const MIN_UNPACKED_BYTES: usize = 4096;
/// What is kept must be shorter by this part of the stream at least.
#[cfg(feature = "zstd")]
const SAVED_PART: usize = 8;
/// The fastest of the levels that zstd numbers from one: the time is spent in the commit.
#[cfg(feature = "zstd")]
const LEVEL: i32 = 1;
/// A block of a zstd frame takes at least so many bytes to say anything, and says at most so many.
#[cfg(feature = "zstd")]
const BLOCK_BYTES: (u64, u64) = (4, 128 << 10);

/// The parts of a packed stream with their lengths, as in [`super::format::SEGMENT_HEADER_LAYOUT`].
pub(crate) const PACKED_HEAD_LAYOUT: &[(&str, u64)] = &[
    ("record.uncompressed length", 4),
    ("record.compressed length", 4),
];

/// Why a packed stream cannot be unpacked, although the checksum of its record matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnpackFault {
    #[error("the lengths before its compressed stream do not fit the record")]
    Lengths,
    #[error(
        "its stream is {len_bytes} bytes uncompressed, more than the {MAX_UNPACKED_BYTES} that are allowed"
    )]
    TooLong { len_bytes: u64 },
    #[cfg(feature = "zstd")]
    #[error(
        "its {frame_bytes} compressed bytes cannot be the {len_bytes} bytes that they are said to be"
    )]
    Length { frame_bytes: u64, len_bytes: u64 },
    #[cfg(feature = "zstd")]
    #[error("its compressed stream is no single zstd frame")]
    Frame,
    #[cfg(feature = "zstd")]
    #[error("its compressed stream cannot be decompressed ({why})")]
    Zstd { why: &'static str },
    #[cfg(not(feature = "zstd"))]
    #[error("its stream is compressed; use a build with the feature zstd")]
    Unsupported,
}

/// The lengths of the stream and of the frame, and the frame.
pub(crate) fn split(packed: &[u8]) -> Result<(usize, &[u8]), UnpackFault> {
    let (head, rest) = packed
        .split_first_chunk::<PACKED_HEAD_BYTES>()
        .ok_or(UnpackFault::Lengths)?;
    let [a, b, c, d, frame @ ..] = *head;
    let len_bytes = u32::from_le_bytes([a, b, c, d]);
    let frame_bytes = u32::from_le_bytes(frame);
    let whole = PACKED_HEAD_BYTES as u64 + u64::from(frame_bytes);
    if align_up(whole, RECORD_ALIGN_BYTES) != packed.len() as u64 {
        return Err(UnpackFault::Lengths);
    }
    if u64::from(len_bytes) > MAX_UNPACKED_BYTES {
        return Err(UnpackFault::TooLong {
            len_bytes: len_bytes.into(),
        });
    }
    let frame = rest
        .get(..frame_bytes as usize)
        .ok_or(UnpackFault::Lengths)?;
    Ok((len_bytes as usize, frame))
}

#[cfg(feature = "zstd")]
mod frames {
    use std::cell::Cell;

    use zstd::zstd_safe::{self, CCtx, DCtx};

    use super::{
        BLOCK_BYTES, LEVEL, MAX_UNPACKED_BYTES, MIN_UNPACKED_BYTES, PACKED_HEAD_BYTES,
        RECORD_ALIGN_BYTES, SAVED_PART, UnpackFault, align_up, split,
    };

    /// Longer buffers are given back to the system.
    const KEPT_BUFFER_BYTES: usize = 4 << 20;

    /// What a thread needs to compress; the next transaction of the thread uses it again.
    struct Tools {
        context: CCtx<'static>,
        buffer: Vec<u8>,
    }

    thread_local! {
        static TOOLS: Cell<Option<Tools>> = const { Cell::new(None) };
        static DECOMPRESSOR: Cell<Option<DCtx<'static>>> = const { Cell::new(None) };
    }

    /// A packed stream. Its buffer goes back to the thread.
    pub(crate) struct Packed(Option<Tools>);

    impl Packed {
        pub(crate) fn bytes(&self) -> &[u8] {
            self.0.as_ref().map_or(&[], |tools| &tools.buffer)
        }
    }

    impl Drop for Packed {
        fn drop(&mut self) {
            if let Some(mut tools) = self.0.take() {
                if tools.buffer.capacity() > KEPT_BUFFER_BYTES {
                    tools.buffer = Vec::new();
                }
                // The thread may be ending: then they simply go.
                let _ = TOOLS.try_with(|kept| kept.set(Some(tools)));
            }
        }
    }

    /// The stream compressed, if that is worth it.
    pub(crate) fn pack(stream: &[u8]) -> Option<Packed> {
        if stream.len() < MIN_UNPACKED_BYTES || stream.len() as u64 > MAX_UNPACKED_BYTES {
            return None;
        }
        let kept = TOOLS.try_with(Cell::take).ok().flatten();
        let tools = match kept {
            Some(tools) => tools,
            None => Tools {
                context: CCtx::try_create()?,
                buffer: Vec::new(),
            },
        };
        let mut packed = Packed(Some(tools));
        let Tools { context, buffer } = packed.0.as_mut()?;
        let most = (stream.len() - stream.len() / SAVED_PART) & !(RECORD_ALIGN_BYTES as usize - 1);
        buffer.clear();
        buffer.resize(most, 0);
        let (head, room) = buffer.split_first_chunk_mut::<PACKED_HEAD_BYTES>()?;
        // No room is the only thing that can go wrong, and means that it is not worth it.
        let frame_bytes = context.compress(room, stream, LEVEL).ok()?;
        let (len_out, frame_out) = head.split_at_mut(4);
        len_out.copy_from_slice(&u32::try_from(stream.len()).ok()?.to_le_bytes());
        frame_out.copy_from_slice(&u32::try_from(frame_bytes).ok()?.to_le_bytes());
        let used = PACKED_HEAD_BYTES + frame_bytes;
        let padded = align_up(used as u64, RECORD_ALIGN_BYTES) as usize;
        // The compressor may have used what is behind its frame.
        buffer.truncate(used);
        buffer.resize(padded, 0);
        Some(packed)
    }

    /// Appends the stream that was packed to `out`, or nothing.
    pub(crate) fn unpack(packed: &[u8], out: &mut Vec<u8>) -> Result<(), UnpackFault> {
        let (len, frame) = split(packed)?;
        let impossible = UnpackFault::Length {
            frame_bytes: frame.len() as u64,
            len_bytes: len as u64,
        };
        let (least, most) = BLOCK_BYTES;
        if len as u64 > frame.len() as u64 / least * most {
            return Err(impossible);
        }
        if zstd_safe::find_frame_compressed_size(frame) != Ok(frame.len()) {
            return Err(UnpackFault::Frame);
        }
        match zstd_safe::get_frame_content_size(frame) {
            Ok(Some(content)) if content == len as u64 => {}
            _ => return Err(impossible),
        }
        let start = out.len();
        out.resize(start + len, 0);
        let room = out.get_mut(start..).unwrap_or_default();
        let result = decompress(frame, room);
        if result != Ok(len) {
            out.truncate(start);
        }
        match result {
            Ok(written) if written == len => Ok(()),
            Ok(_) => Err(impossible),
            Err(why) => Err(UnpackFault::Zstd { why }),
        }
    }

    fn decompress(frame: &[u8], room: &mut [u8]) -> Result<usize, &'static str> {
        let kept = DECOMPRESSOR.try_with(Cell::take).ok().flatten();
        let mut context = kept
            .or_else(DCtx::try_create)
            .ok_or("there is no memory for it")?;
        let result = context
            .decompress(room, frame)
            .map_err(zstd_safe::get_error_name);
        let _ = DECOMPRESSOR.try_with(|kept| kept.set(Some(context)));
        result
    }
}

#[cfg(not(feature = "zstd"))]
mod frames {
    use super::{UnpackFault, split};

    /// There is none.
    pub(crate) enum Packed {}

    impl Packed {
        pub(crate) fn bytes(&self) -> &[u8] {
            match *self {}
        }
    }

    pub(crate) const fn pack(_: &[u8]) -> Option<Packed> {
        None
    }

    pub(crate) fn unpack(packed: &[u8], _: &mut Vec<u8>) -> Result<(), UnpackFault> {
        split(packed).and(Err(UnpackFault::Unsupported))
    }
}

pub(crate) use frames::{Packed, pack, unpack};

#[cfg(test)]
#[cfg(feature = "zstd")]
mod tests {
    use super::*;

    fn text(len: usize) -> Vec<u8> {
        (0..len)
            .map(|at| (at / 7 % 23) as u8 ^ (at % 5) as u8)
            .collect()
    }

    /// As [`pack`] does, whether or not it is worth it.
    fn packed(stream_bytes: u32, frame: &[u8]) -> Vec<u8> {
        let mut out = stream_bytes.to_le_bytes().to_vec();
        out.extend_from_slice(&(frame.len() as u32).to_le_bytes());
        out.extend_from_slice(frame);
        out.resize(out.len().next_multiple_of(16), 0);
        out
    }

    fn frame(stream: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(stream, 1).unwrap()
    }

    fn fault(packed: &[u8]) -> UnpackFault {
        let mut out = b"before".to_vec();
        let fault = unpack(packed, &mut out).unwrap_err();
        assert_eq!(out, b"before");
        fault
    }

    #[test]
    fn what_is_packed_comes_back_and_is_shorter_by_an_eighth() {
        for len in [4096, 4112, 65_536, 1 << 20] {
            let stream = text(len);
            let packed = pack(&stream).unwrap();
            assert!(packed.bytes().len() <= len - len / 8);
            assert!(packed.bytes().len().is_multiple_of(16));
            let mut out = b"before".to_vec();
            unpack(packed.bytes(), &mut out).unwrap();
            assert_eq!(&out[..6], b"before");
            assert!(out[6..] == stream);
        }
    }

    #[test]
    fn what_is_short_or_cannot_be_made_shorter_by_an_eighth_stays() {
        assert!(pack(&text(4080)).is_none());
        assert!(pack(&vec![7; 4096]).is_some());
        let mut noise = vec![0; 8192];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        assert!(pack(&noise).is_none());
        // A tenth of zeros does not suffice, a fifth does.
        noise[..819].fill(0);
        assert!(pack(&noise).is_none());
        noise[..1638].fill(0);
        assert!(pack(&noise).is_some());
    }

    #[test]
    fn the_bytes_do_not_depend_on_what_the_thread_packed_before() {
        let streams: Vec<_> = (0..40).map(|at| text(4096 + at * 1040)).collect();
        let mut noise = vec![0; 8192];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        // What was given up must leave nothing either.
        let again = streams.iter().map(|stream| {
            assert!(pack(&noise).is_none());
            pack(stream).unwrap().bytes().to_vec()
        });
        let again: Vec<_> = again.collect();
        for (stream, again) in streams.iter().zip(again) {
            let stream = stream.clone();
            let fresh = std::thread::spawn(move || pack(&stream).unwrap().bytes().to_vec());
            assert!(fresh.join().unwrap() == again);
        }
    }

    #[test]
    fn a_length_that_is_not_that_of_the_frame_is_refused() {
        let stream = text(5000);
        let frame = frame(&stream);
        unpack(&packed(5000, &frame), &mut Vec::new()).unwrap();
        for wrong in [0, 1, 4999, 5001, 1 << 20] {
            let fault = fault(&packed(wrong, &frame));
            assert!(
                matches!(fault, UnpackFault::Length { .. }),
                "{wrong}: {fault}"
            );
        }
    }

    #[test]
    fn a_frame_that_is_cut_short_or_followed_by_another_is_refused() {
        let stream = text(5000);
        let whole = frame(&stream);
        for len in [0, 1, 4, 12, whole.len() - 1] {
            fault(&packed(5000, &whole[..len]));
        }
        let twice = [whole.as_slice(), &whole].concat();
        assert_eq!(fault(&packed(5000, &twice)), UnpackFault::Frame);
        assert_eq!(fault(&packed(10_000, &twice)), UnpackFault::Frame);
        let mut broken = whole.clone();
        for byte in &mut broken[16..] {
            *byte = !*byte;
        }
        fault(&packed(5000, &broken));
    }

    #[test]
    fn lengths_that_do_not_fit_the_record_are_refused() {
        let whole = packed(5000, &frame(&text(5000)));
        for cut in [0, 7, 8, 16, whole.len() - 16] {
            assert_eq!(fault(&whole[..cut]), UnpackFault::Lengths);
        }
        let longer = [whole.as_slice(), &[0; 16]].concat();
        assert_eq!(fault(&longer), UnpackFault::Lengths);
    }

    #[test]
    fn a_bomb_is_refused_before_memory_is_asked_for() {
        // An honest frame of more than is allowed: 16 KiB that are 512 MiB.
        let bomb = frame(&vec![0; 512 << 20]);
        assert_eq!(
            fault(&packed(512 << 20, &bomb)),
            UnpackFault::TooLong {
                len_bytes: 512 << 20
            }
        );
        // One that claims less than it is.
        assert!(matches!(
            fault(&packed(4096, &bomb)),
            UnpackFault::Length { .. }
        ));
        // A few bytes whose header claims as much as is allowed: no block can hold that.
        let mut liar = frame(&[0; 300]);
        liar.truncate(5);
        liar[4] = 0b1010_0000;
        liar.extend_from_slice(&(1u32 << 28).to_le_bytes());
        liar.extend_from_slice(&[3, 0, 0, 0]);
        let mut out = Vec::new();
        let fault = unpack(&packed(1 << 28, &liar), &mut out).unwrap_err();
        assert!(matches!(fault, UnpackFault::Length { .. }), "{fault}");
        assert_eq!(out.capacity(), 0);
    }
}
