//! Structural operations and runs that are likely to mean something, drawn from any bytes.

use arbitrary::{Result, Unstructured};

/// How many pages the operations speak of.
const PAGES: u8 = 6;

/// What the operations so far have probably led to, so that later ones can fit.
#[derive(Clone, Debug, Default)]
pub struct Guess {
    allocated: u32,
}

impl Guess {
    /// The id that the next page gets if none was freed before.
    fn next_page(&mut self) -> u64 {
        let page = (1 << 32) | u64::from(self.allocated);
        self.allocated = self.allocated.wrapping_add(1);
        page
    }
}

/// The id of some page, now and then of none.
pub fn page(u: &mut Unstructured<'_>) -> Result<u64> {
    let choice: u8 = u.arbitrary()?;
    if choice >= 250 {
        return u.arbitrary();
    }
    let generation = u64::from(choice / PAGES % 3 + 1);
    Ok((generation << 32) | u64::from(choice % PAGES))
}

/// The length of a page, mostly a small one.
fn len(u: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match u.arbitrary::<u8>()? % 8 {
        0..=3 => 64,
        4 => 4096,
        5 => 20_000,
        6 => u64::from(u.arbitrary::<u16>()?),
        _ => u.arbitrary()?,
    })
}

/// Appends one operation, as bincode encodes it.
pub fn operation(u: &mut Unstructured<'_>, guess: &mut Guess, out: &mut Vec<u8>) -> Result<()> {
    let variant = u.arbitrary::<u8>()? % 9;
    let text = |out: &mut Vec<u8>, bytes: &[u8]| {
        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        out.extend_from_slice(bytes);
    };
    match variant {
        // Twice as likely as others: without pages there is little to do.
        0 | 6 | 7 => {
            out.extend_from_slice(&0u32.to_le_bytes());
            let id = if variant == 0 {
                page(u)?
            } else {
                guess.next_page()
            };
            out.extend_from_slice(&id.to_le_bytes());
            out.extend_from_slice(&len(u)?.to_le_bytes());
            out.extend_from_slice(&u32::from(u.ratio(1, 16)?).to_le_bytes());
        }
        1 | 4 => {
            out.extend_from_slice(&u32::from(variant).to_le_bytes());
            out.extend_from_slice(&page(u)?.to_le_bytes());
        }
        2 => {
            out.extend_from_slice(&2u32.to_le_bytes());
            let old = page(u)?;
            out.extend_from_slice(&old.to_le_bytes());
            let new = if u.arbitrary()? {
                old.wrapping_add(1 << 32)
            } else {
                page(u)?
            };
            out.extend_from_slice(&new.to_le_bytes());
        }
        3 | 8 => {
            out.extend_from_slice(&3u32.to_le_bytes());
            out.extend_from_slice(&page(u)?.to_le_bytes());
            let names = ["copy", "slice", "concat", "xor", "elementwise", "none"];
            let name = u.choose(&names)?;
            text(out, name.as_bytes());
            out.extend_from_slice(&1u32.to_le_bytes());
            let params_len = usize::from(u.arbitrary::<u8>()? % 12);
            let params = u.bytes(params_len.min(u.len()))?.to_vec();
            text(out, &params);
            let parents = u64::from(u.arbitrary::<u8>()? % 4);
            out.extend_from_slice(&parents.to_le_bytes());
            for _ in 0..parents {
                out.extend_from_slice(&page(u)?.to_le_bytes());
            }
        }
        _ => {
            out.extend_from_slice(&5u32.to_le_bytes());
            out.extend_from_slice(&page(u)?.to_le_bytes());
            let key_len = usize::from(u.arbitrary::<u8>()? % 8);
            let key = u.bytes(key_len.min(u.len()))?.to_vec();
            text(out, &key);
            match u.arbitrary::<u8>()? {
                0..=99 => out.push(0),
                len => {
                    out.push(1);
                    let value = u.bytes(usize::from(len).min(u.len()))?.to_vec();
                    text(out, &value);
                }
            }
        }
    }
    Ok(())
}

/// Appends one run at its place in the stream.
pub fn run(u: &mut Unstructured<'_>, out: &mut Vec<u8>) -> Result<()> {
    let page = page(u)?;
    let offset = match u.arbitrary::<u8>()? {
        small @ 0..=199 => u32::from(small % 70),
        200..=239 => u32::from(u.arbitrary::<u16>()?),
        _ => u.arbitrary()?,
    };
    let len = usize::from(u.arbitrary::<u8>()? % 100) + 1;
    let bytes = u.bytes(len.min(u.len()))?.to_vec();
    let said = if u.ratio(1, 32)? {
        u.arbitrary()?
    } else {
        (bytes.len() as u32).wrapping_sub(1)
    };
    out.resize(out.len().next_multiple_of(16), 0);
    out.extend_from_slice(&page.to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&said.to_le_bytes());
    out.resize(out.len() + (offset as usize % 16), 0);
    out.extend_from_slice(&bytes);
    Ok(())
}
