//! Whether memory leaks, by the slope of the steady part.

use serde::{Deserialize, Serialize};

/// What is said of a series of memory figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Leak {
    /// The run was too short to say.
    Incomplete,
    /// It stays where it is, or what it grows by means nothing.
    Ok {
        /// Bytes an hour that the floor rises by; negative where it sinks.
        bytes_per_hour: f64,
    },
    /// It grows and grows.
    Leaks {
        /// Bytes an hour that the floor rises by.
        bytes_per_hour: f64,
        /// Bytes for each operation.
        bytes_per_operation: f64,
    },
}

/// One figure: when in seconds, operations until then, bytes.
pub type Point = (f64, u64, u64);

/// The first part of a run is warm-up: caches and pools fill.
pub const WARM_UP: f64 = 0.3;
/// Less than this after the warm-up says nothing, as long as nobody asks for another time.
pub const MIN_STEADY_S: f64 = 120.0;
/// The steady part is cut into so many windows, of each of which the lowest figure counts: what a sawtooth falls back to.
const WINDOWS: usize = 12;
/// A rise of the floor of less than this in the whole steady part is noise.
pub const NOISE_BYTES: f64 = 2.0 * 1024.0 * 1024.0;
/// And so is one of fewer descriptors than these.
pub const NOISE_DESCRIPTORS: f64 = 8.0;
/// And so is one of less than this part of the floor.
const NOISE_SHARE: f64 = 0.03;

/// Judges a series of memory figures in the order of time.
///
/// The floor of each window is taken, and the median of the slopes between all pairs of floors (Theil and Sen), which a few
/// outliers and a single step do not move. It leaks if that slope, over the whole steady part, is more than `noise`. The same is done
/// with counts of descriptors in the place of bytes.
#[must_use]
pub fn judge(points: &[Point], min_steady_s: f64, noise: f64) -> Leak {
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return Leak::Incomplete;
    };
    let from_s = first.0 + (last.0 - first.0) * WARM_UP;
    let steady: Vec<Point> = points
        .iter()
        .copied()
        .filter(|point| point.0 >= from_s)
        .collect();
    let length_s = last.0 - from_s;
    if length_s < min_steady_s || steady.len() < 2 * WINDOWS {
        return Leak::Incomplete;
    }
    let floors: Vec<(f64, f64)> = steady
        .chunks(steady.len().div_ceil(WINDOWS))
        .filter_map(|window| {
            let low = window.iter().min_by_key(|point| point.2)?;
            let middle = window.get(window.len() / 2)?;
            Some((middle.0, to_f64(low.2)))
        })
        .collect();
    let mut slopes = Vec::new();
    for (at, one) in floors.iter().enumerate() {
        for two in floors.iter().skip(at + 1) {
            if two.0 > one.0 {
                slopes.push((two.1 - one.1) / (two.0 - one.0));
            }
        }
    }
    slopes.sort_by(f64::total_cmp);
    let Some(slope) = slopes.get(slopes.len() / 2).copied() else {
        return Leak::Incomplete;
    };
    let bytes_per_hour = slope * 3600.0;
    let rise = slope * length_s;
    let floor = floors.iter().map(|floor| floor.1).fold(f64::MAX, f64::min);
    if rise <= noise.max(floor * NOISE_SHARE) {
        return Leak::Ok { bytes_per_hour };
    }
    // Where an allocator keeps what one large scenario needed until the next comes along, some windows never see the floor. What
    // leaks cannot be had back, so the lowest of late windows lies above the lowest of early ones.
    let third = floors.len() / 3;
    let lowest = |of: &[(f64, f64)]| of.iter().map(|floor| floor.1).fold(f64::MAX, f64::min);
    let early = lowest(floors.get(..third).unwrap_or_default());
    let late = lowest(floors.get(floors.len() - third..).unwrap_or_default());
    if late - early <= noise.max(floor * NOISE_SHARE) / 2.0 {
        return Leak::Ok { bytes_per_hour };
    }
    let operations = steady
        .first()
        .map_or(0, |first| last.1.saturating_sub(first.1));
    Leak::Leaks {
        bytes_per_hour,
        bytes_per_operation: rise / to_f64(operations.max(1)),
    }
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn to_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests")]

    use super::*;

    const MIB: f64 = 1024.0 * 1024.0;

    fn judge(points: &[Point]) -> Leak {
        super::judge(points, MIN_STEADY_S, NOISE_BYTES)
    }

    /// A series of figures, one a second for so many seconds.
    fn trace(seconds: u32, bytes: impl Fn(f64) -> f64) -> Vec<Point> {
        (0..seconds)
            .map(|second| {
                let noise = f64::from(second * 7919 % 100) / 100.0 * 0.4 * MIB;
                let at_s = f64::from(second);
                (at_s, u64::from(second) * 1000, (bytes(at_s) + noise) as u64)
            })
            .collect()
    }

    fn is_ok(leak: Leak) -> bool {
        matches!(leak, Leak::Ok { .. })
    }

    #[test]
    fn short_runs_are_incomplete_whatever_they_show() {
        assert_eq!(judge(&[]), Leak::Incomplete);
        assert_eq!(judge(&trace(100, |at| at * 10.0 * MIB)), Leak::Incomplete);
    }

    #[test]
    fn a_short_steady_part_is_judged_if_asked_for_and_descriptors_have_their_own_noise() {
        let short = trace(60, |at| 50.0 * MIB + at * MIB);
        assert_eq!(judge(&short), Leak::Incomplete);
        let verdict = super::judge(&short, 20.0, NOISE_BYTES);
        assert!(matches!(verdict, Leak::Leaks { .. }), "{verdict:?}");
        let descriptors = |a_second: f64| -> Vec<Point> {
            (0..60u32)
                .map(|at| (f64::from(at), 0, (20.0 + f64::from(at) * a_second) as u64))
                .collect()
        };
        let judged = |a_second| super::judge(&descriptors(a_second), 20.0, NOISE_DESCRIPTORS);
        assert!(is_ok(judged(0.1)), "{:?}", judged(0.1));
        assert!(matches!(judged(2.0), Leak::Leaks { .. }));
    }

    #[test]
    fn what_stays_is_no_leak() {
        assert!(is_ok(judge(&trace(600, |_| 50.0 * MIB))));
    }

    #[test]
    fn warming_up_is_no_leak() {
        let warm = |at: f64| 50.0 * MIB + 100.0 * MIB * (1.0 - (-at / 30.0).exp());
        assert!(
            is_ok(judge(&trace(600, warm))),
            "{:?}",
            judge(&trace(600, warm))
        );
    }

    #[test]
    fn one_step_is_no_leak() {
        let step = |at: f64| if at < 500.0 { 50.0 * MIB } else { 90.0 * MIB };
        assert!(
            is_ok(judge(&trace(600, step))),
            "{:?}",
            judge(&trace(600, step))
        );
    }

    #[test]
    fn a_sawtooth_over_a_level_floor_is_no_leak_and_over_a_rising_one_is() {
        let tooth = |at: f64| 50.0 * MIB + (at % 17.0) * 3.0 * MIB;
        assert!(is_ok(judge(&trace(600, tooth))));
        let rising = |at: f64| tooth(at) + at * 0.02 * MIB;
        let verdict = judge(&trace(600, rising));
        assert!(matches!(verdict, Leak::Leaks { .. }), "{verdict:?}");
    }

    #[test]
    fn what_an_allocator_keeps_for_a_while_and_gives_back_is_no_leak() {
        // As a worker showed it in an hour: levels that last for minutes, and in between the floor.
        let levels = [60, 62, 63, 70, 84, 90, 110, 64, 90, 100, 66, 110, 112];
        let kept = |at: f64| f64::from(levels[(at / 47.0) as usize % 13]) * MIB;
        assert!(
            is_ok(judge(&trace(600, kept))),
            "{:?}",
            judge(&trace(600, kept))
        );
        let leaks = |at: f64| kept(at) + at * 0.1 * MIB;
        let verdict = judge(&trace(600, leaks));
        assert!(matches!(verdict, Leak::Leaks { .. }), "{verdict:?}");
    }

    #[test]
    fn a_line_is_a_leak_with_its_slope() {
        let verdict = judge(&trace(600, |at| 50.0 * MIB + at * 0.05 * MIB));
        let Leak::Leaks {
            bytes_per_hour,
            bytes_per_operation,
        } = verdict
        else {
            unreachable!("{verdict:?}");
        };
        let exact = 0.05 * MIB * 3600.0;
        assert!(
            (bytes_per_hour - exact).abs() < exact * 0.1,
            "{bytes_per_hour}"
        );
        assert!(
            (bytes_per_operation - 52.4).abs() < 6.0,
            "{bytes_per_operation}"
        );
    }
}
