//! Manifests and image files, beside the log that they belong to.

use arbitrary::{Result, Unstructured};

use super::check;
use super::operations::page;
use super::seal;

/// The golden files of format version 1: two segments, two checkpoints.
const GOLDEN: [(&str, &[u8]); 6] = [
    (
        "log-0000000000000001",
        include_bytes!("../../../tests/golden/v1/log-0000000000000001"),
    ),
    (
        "log-0000000000000002",
        include_bytes!("../../../tests/golden/v1/log-0000000000000002"),
    ),
    (
        "checkpoint-0000000000000001",
        include_bytes!("../../../tests/golden/v1/checkpoint-0000000000000001"),
    ),
    (
        "checkpoint-0000000000000002",
        include_bytes!("../../../tests/golden/v1/checkpoint-0000000000000002"),
    ),
    (
        "images-0000000000000001",
        include_bytes!("../../../tests/golden/v1/images-0000000000000001"),
    ),
    (
        "images-0000000000000002",
        include_bytes!("../../../tests/golden/v1/images-0000000000000002"),
    ),
];
const MAX_INPUT_BYTES: usize = 16 * 1024;

/// The golden files with one in the place of another, or besides them.
fn golden_with(name: &str, bytes: Vec<u8>) -> Vec<(String, Vec<u8>)> {
    let kept = GOLDEN.iter().filter(|(golden, _)| *golden != name);
    let mut files: Vec<(String, Vec<u8>)> = kept
        .map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec()))
        .collect();
    files.push((name.to_owned(), bytes));
    files
}

/// The body of the newest manifest, beside the golden files: as the only thing that is wrong, and without the
/// beginning of the log, so that nothing can stand in for it.
pub fn manifest(input: &[u8]) {
    if input.len() > MAX_INPUT_BYTES {
        return;
    }
    let mut bytes = seal::checkpoint_head(b"MMSBCKPT", 2, input);
    bytes.extend_from_slice(input);
    let mut files = golden_with("checkpoint-0000000000000002", bytes);
    check::files(&files);
    files.retain(|(name, _)| {
        name != "log-0000000000000001" && name != "checkpoint-0000000000000001"
    });
    check::files(&files);
}

/// The images of the older checkpoint, which the newer builds upon.
pub fn images(input: &[u8]) {
    const NAME: &str = "images-0000000000000001";
    let golden = GOLDEN.iter().find(|(name, _)| *name == NAME);
    let len = golden.map_or(0, |(_, bytes)| bytes.len());
    let mut bytes = seal::checkpoint_head(b"MMSB-IMG", 1, &[]);
    let _ = draw_images(&mut Unstructured::new(input), len, &mut bytes);
    // The manifest says how long it is.
    bytes.resize(len, 0);
    let mut files = golden_with(NAME, bytes);
    check::files(&files);
    files.retain(|(name, _)| name != "log-0000000000000001");
    check::files(&files);
}

fn draw_images(u: &mut Unstructured<'_>, len: usize, out: &mut Vec<u8>) -> Result<()> {
    while out.len() < len && !u.is_empty() {
        let shape: u8 = u.arbitrary()?;
        let page = page(u)?;
        let offset = if shape % 8 == 7 {
            u.arbitrary()?
        } else {
            u64::from(shape / 8)
        };
        let body_len = usize::from(u.arbitrary::<u16>()? % 4200).min(u.len());
        let body = u.bytes(body_len)?.to_vec();
        let said = if shape % 8 == 6 {
            u.arbitrary()?
        } else {
            body.len() as u64
        };
        let lsn = u64::from(u.arbitrary::<u8>()?);
        out.extend_from_slice(&seal::image_head(page, offset, lsn, 1, said, &body));
        out.extend_from_slice(&body);
        out.resize(out.len().next_multiple_of(16), 0);
    }
    Ok(())
}
