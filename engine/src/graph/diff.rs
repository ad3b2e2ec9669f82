//! Where two equally long byte strings differ.

/// Blocks compared at once by the library's comparison, which is vectorised.
const BLOCK_BYTES: usize = 256;

/// The commonest length of a short page. With the length known the compiler leaves out loops and
/// calls, which would cost more than the bytes.
pub(super) const LINE_BYTES: usize = 64;

/// Copies `new` to `old` where they differ and tells the first and the last position of that;
/// `None` if they are equal. Both must have the same length.
#[inline(always)]
pub(crate) fn write_difference(old: &mut [u8], new: &[u8]) -> Option<(usize, usize)> {
    let (Ok(line), Ok(new_line)) = (
        <&mut [u8; LINE_BYTES]>::try_from(&mut *old),
        <&[u8; LINE_BYTES]>::try_from(new),
    ) else {
        return write_any_difference(old, new);
    };
    let found = differing(line, new_line);
    // All of it, even if less differs: stores as wide as the next reader's loads can be forwarded
    // to them, odd ones cannot.
    *line = *new_line;
    found
}

#[inline(never)]
fn write_any_difference(old: &mut [u8], new: &[u8]) -> Option<(usize, usize)> {
    let (first, last) = differing(old, new)?;
    if let (Some(to), Some(from)) = (old.get_mut(first..=last), new.get(first..=last)) {
        to.copy_from_slice(from);
    }
    Some((first, last))
}

/// The first and the last position at which `old` and `new` differ; `None` if they are equal.
#[inline(always)]
fn differing(old: &[u8], new: &[u8]) -> Option<(usize, usize)> {
    let first = first_difference(old, new)?;
    Some((first, last_difference(old, new).unwrap_or(first)))
}

#[inline(always)]
fn first_difference(old: &[u8], new: &[u8]) -> Option<usize> {
    let mut base = 0;
    let (mut old, mut new) = (old, new);
    while let (Some((a, a_rest)), Some((b, b_rest))) = (
        old.split_at_checked(BLOCK_BYTES),
        new.split_at_checked(BLOCK_BYTES),
    ) {
        if a != b {
            break;
        }
        (old, new) = (a_rest, b_rest);
        base += BLOCK_BYTES;
    }
    let (a, a_tail) = old.as_chunks::<8>();
    let (b, b_tail) = new.as_chunks::<8>();
    for (i, (x, y)) in a.iter().zip(b).enumerate() {
        let bits = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if bits != 0 {
            return Some(base + i * 8 + bits.trailing_zeros() as usize / 8);
        }
    }
    let at = a_tail.iter().zip(b_tail).position(|(x, y)| x != y)?;
    Some(base + a.len() * 8 + at)
}

#[inline(always)]
fn last_difference(old: &[u8], new: &[u8]) -> Option<usize> {
    let (mut old, mut new) = (old, new);
    while let (Some((a_rest, a)), Some((b_rest, b))) = (
        old.len()
            .checked_sub(BLOCK_BYTES)
            .and_then(|mid| old.split_at_checked(mid)),
        new.len()
            .checked_sub(BLOCK_BYTES)
            .and_then(|mid| new.split_at_checked(mid)),
    ) {
        if a != b {
            break;
        }
        (old, new) = (a_rest, b_rest);
    }
    let (a_head, a) = old.as_rchunks::<8>();
    let (b_head, b) = new.as_rchunks::<8>();
    for (i, (x, y)) in a.iter().zip(b).enumerate().rev() {
        let bits = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if bits != 0 {
            return Some(a_head.len() + i * 8 + 7 - bits.leading_zeros() as usize / 8);
        }
    }
    a_head.iter().zip(b_head).rposition(|(x, y)| x != y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_the_naive_search(
            len in prop_oneof![1_usize..1200, Just(LINE_BYTES)],
            flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 0..4)
        ) {
            let old: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut new = old.clone();
            for (index, bits) in flips {
                new[index.index(len)] ^= bits;
            }
            let naive = (0..len).find(|i| old[*i] != new[*i])
                .zip((0..len).rfind(|i| old[*i] != new[*i]));
            let mut written = old;
            prop_assert_eq!(write_difference(&mut written, &new), naive);
            prop_assert_eq!(written, new);
        }
    }
}
