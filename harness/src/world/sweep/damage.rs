//! What a crash can leave of the changes that were not synced.
//!
//! Disks and file systems promise nothing about what was not synced: any part of it may be there, in any order. All
//! subsets are tried where there are few changes, and where there are many those that break an order: beginnings, ends,
//! single ones and all but one. The last write may also be there in part, cut at any byte if it is
//! short and at any sector if it is long, and so may, at sectors, every earlier one.

use std::collections::BTreeSet;

use crate::world::storage::Effect;

/// Up to so many changes every subset is tried.
const ALL_SUBSETS: usize = 6;
/// Writes up to this length are cut at every byte.
const SHORT_BYTES: usize = 512;
/// Of longer ones so many bytes at either end are.
const EDGE_BYTES: usize = 64;
const SECTOR_BYTES: usize = 512;
/// So many sectors at either end of a long write are cut between.
const EDGE_SECTORS: usize = 16;

/// Which of the changes that were not synced are on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) keep: Vec<usize>,
    pub(crate) tear: Option<Tear>,
}

/// Of one write only the bytes `from..to` are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tear {
    pub(crate) change: usize,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

impl Damage {
    /// One of the things that a crash can leave: each subset of the changes can come, and of one write a part.
    pub(crate) fn drawn(pending: &[&Effect], seed: u64) -> Self {
        let count = pending.len();
        let mut state = seed;
        let mut draw = |below: usize| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let number = (z ^ (z >> 31)) % (below.max(1) as u64);
            usize::try_from(number).unwrap_or_default()
        };
        let (form, cut) = (draw(5), draw(count + 1));
        let mut keep: Vec<usize> = match form {
            0 => (0..cut).collect(),
            1 => (cut..count).collect(),
            2 => (0..count).filter(|other| *other != cut).collect(),
            3 => (0..count).collect(),
            _ => (0..count).filter(|_| draw(2) == 1).collect(),
        };
        let torn = draw(count + 1);
        let tear = match pending.get(torn) {
            Some(Effect::Write { bytes, .. }) if bytes.len() > 1 && draw(2) == 1 => {
                // At a sector of what is long, mostly: often the last one; at any byte else.
                let last = bytes.len() - 1;
                let cut = match draw(4) {
                    0 => last,
                    _ => 1 + draw(last),
                };
                let sector = cut / SECTOR_BYTES * SECTOR_BYTES;
                let cut = if sector > 0 && draw(4) > 0 {
                    sector
                } else {
                    cut
                };
                let (from, to) = if draw(3) > 0 {
                    (0, cut)
                } else {
                    (cut, bytes.len())
                };
                keep.retain(|other| *other != torn);
                Some(Tear {
                    change: torn,
                    from,
                    to,
                })
            }
            _ => None,
        };
        Self { keep, tear }
    }
}

/// How closely a sweep cuts writes that a crash has torn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grain {
    /// At every byte of the last write if it is short, and of its ends if it is long; and at sectors.
    #[default]
    Byte,
    /// At sectors of 512 bytes.
    Sector,
}

/// Everything that a crash can leave.
pub(crate) fn all(pending: &[&Effect], grain: Grain) -> Vec<Damage> {
    let mut damages: Vec<Damage> = subsets(pending.len())
        .into_iter()
        .map(|keep| Damage { keep, tear: None })
        .collect();
    let last = pending
        .iter()
        .rposition(|effect| matches!(effect, Effect::Write { .. }));
    for (change, effect) in pending.iter().enumerate() {
        if let Effect::Write { at, bytes, .. } = effect {
            let is_last = last == Some(change);
            tears(
                &mut damages,
                pending.len(),
                change,
                *at,
                bytes,
                is_last,
                grain,
            );
        }
    }
    damages
}

fn subsets(count: usize) -> Vec<Vec<usize>> {
    if count <= ALL_SUBSETS {
        return (0..1usize << count)
            .map(|mask| (0..count).filter(|bit| mask >> bit & 1 == 1).collect())
            .collect();
    }
    let mut found = BTreeSet::new();
    for cut in 0..=count {
        found.insert((0..cut).collect::<Vec<_>>());
        found.insert((cut..count).collect());
        if cut < count {
            found.insert(vec![cut]);
            found.insert((0..count).filter(|other| *other != cut).collect());
        }
    }
    found.into_iter().collect()
}

fn tears(
    damages: &mut Vec<Damage>,
    count: usize,
    change: usize,
    at: usize,
    bytes: &[u8],
    is_last: bool,
    grain: Grain,
) {
    let len = bytes.len();
    let before: Vec<usize> = (0..change).collect();
    let others: Vec<usize> = (0..count).filter(|other| *other != change).collect();
    let mut push = |keep: &Vec<usize>, from: usize, to: usize| {
        damages.push(Damage {
            keep: keep.clone(),
            tear: Some(Tear { change, from, to }),
        });
    };
    let sectors = sector_cuts(at, bytes);
    for cut in &sectors {
        push(&others, 0, *cut);
        push(&others, *cut, len);
        if is_last && others != before {
            push(&before, 0, *cut);
            push(&before, *cut, len);
        }
    }
    // One sector alone: what was written first need not arrive first.
    for (from, to) in sectors.iter().zip(sectors.iter().skip(1)) {
        push(&others, *from, *to);
    }
    if grain == Grain::Byte && is_last {
        for cut in byte_cuts(bytes) {
            if !sectors.contains(&cut) {
                push(&before, 0, cut);
            }
            // The beginning is missing and the end is there.
            if cut.is_multiple_of(8) {
                push(&before, cut, len);
            }
        }
    }
}

/// Where sectors end inside of a write. Of zeros a few are enough: they look alike wherever they end.
fn sector_cuts(at: usize, bytes: &[u8]) -> Vec<usize> {
    let len = bytes.len();
    let first = at.next_multiple_of(SECTOR_BYTES) - at;
    let cuts: Vec<usize> = (first..len)
        .step_by(SECTOR_BYTES)
        .filter(|cut| *cut > 0)
        .collect();
    let edge = if bytes.iter().all(|byte| *byte == 0) {
        1
    } else {
        EDGE_SECTORS
    };
    if cuts.len() <= 2 * edge {
        return cuts;
    }
    let (head, tail) = (cuts.iter().take(edge), cuts.iter().skip(cuts.len() - edge));
    head.chain(tail).copied().collect()
}

fn byte_cuts(bytes: &[u8]) -> Vec<usize> {
    let len = bytes.len();
    if len <= SHORT_BYTES {
        (1..len).collect()
    } else if bytes.iter().all(|byte| *byte == 0) {
        Vec::new()
    } else {
        (1..EDGE_BYTES).chain(len - EDGE_BYTES..len).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(at: usize, len: usize) -> Effect {
        Effect::Write {
            file: 0,
            at,
            bytes: vec![1; len].into(),
        }
    }

    #[test]
    fn few_changes_give_every_subset_and_many_every_broken_order() {
        assert_eq!(subsets(0), [Vec::<usize>::new()]);
        assert_eq!(subsets(3).len(), 8);
        let many = subsets(9);
        assert!(many.contains(&vec![0, 1, 2, 3]) && many.contains(&vec![8]));
        assert!(many.contains(&vec![0, 1, 2, 3, 4, 5, 6, 8]));
    }

    #[test]
    fn the_last_write_is_cut_at_every_byte_and_earlier_ones_at_sectors() {
        let (first, second) = (write(0, 1536), write(1536, 100));
        let pending = [&first, &second];
        let damages = all(&pending, Grain::Byte);
        let prefixes = |change: usize| {
            damages
                .iter()
                .filter_map(|damage| damage.tear)
                .filter(|tear| tear.change == change && tear.from == 0)
                .count()
        };
        assert_eq!(prefixes(0), 2);
        assert_eq!(prefixes(1), 99);
        assert!(all(&pending, Grain::Sector).len() < 20);
        let one_sector = Tear {
            change: 0,
            from: 512,
            to: 1024,
        };
        assert!(damages.iter().any(|damage| damage.tear == Some(one_sector)));
    }
}
