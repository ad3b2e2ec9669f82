//! Faults that the driver injects when asked to.

use std::collections::BTreeMap;

/// What happens at a point of the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `cuMemCreate` and `cuMemAlloc`.
    Create,
    /// `cuMemMap`.
    Map,
    /// `cuMemHostAlloc`.
    Pin,
    /// `cuLaunchKernel`.
    Launch,
    /// A copy between host and device, or on the device.
    Copy,
    /// Any work that a queue executes.
    Work,
    /// `cuModuleLoadData`.
    Module,
    /// `cuMemUnmap`, `cuMemRelease` and what else gives back.
    Release,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The call is refused and nothing happens.
    Refused,
    /// The work fails while it runs; the context is of no use afterwards.
    Fails,
    /// One bit of what is copied arrives wrong.
    Corrupt,
    /// What is copied arrives after the queue says that it did.
    Late,
    /// The device is gone.
    Lost,
}

/// What is to go wrong, and when.
#[derive(Debug, Default)]
pub struct Plan {
    counts: BTreeMap<Kind, u64>,
    due: Vec<(Kind, u64, Effect)>,
}

impl Plan {
    /// Reads a list such as `create@3,launch@2:fails,copy@7:corrupt,work@20:lost`: the third allocation from here on is refused, and so
    /// on.
    ///
    /// Kinds are `create`, `map`, `pin`, `launch`, `copy`, `work`, `module`, `release`; effects are `refused` (also when none is given), `fails`,
    /// `corrupt` and `late` (copies only), `lost`. `*` for the number: every one.
    ///
    /// # Errors
    /// What is wrong with the list.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut plan = Self::default();
        for item in text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
        {
            let (what, effect) = item.split_once(':').unwrap_or((item, "refused"));
            let (kind, number) = what
                .split_once('@')
                .ok_or_else(|| format!("{item}: say which one, as in copy@3"))?;
            let kind = match kind {
                "create" => Kind::Create,
                "map" => Kind::Map,
                "pin" => Kind::Pin,
                "launch" => Kind::Launch,
                "copy" => Kind::Copy,
                "work" => Kind::Work,
                "module" => Kind::Module,
                "release" => Kind::Release,
                _ => return Err(format!("{item}: no such kind of fault")),
            };
            let effect = match effect {
                "refused" => Effect::Refused,
                "fails" => Effect::Fails,
                "corrupt" => Effect::Corrupt,
                "late" => Effect::Late,
                "lost" => Effect::Lost,
                _ => return Err(format!("{item}: no such effect")),
            };
            if matches!(effect, Effect::Corrupt | Effect::Late) && kind != Kind::Copy {
                return Err(format!("{item}: only a copy can be corrupt or late"));
            }
            let number = if number == "*" {
                EVERY
            } else {
                number
                    .parse()
                    .ok()
                    .filter(|number| *number > 0)
                    .ok_or_else(|| format!("{item}: the first one has number 1"))?
            };
            plan.due.push((kind, number, effect));
        }
        Ok(plan)
    }

    /// Counts one more of a kind, and says what goes wrong with it.
    pub fn next(&mut self, kind: Kind) -> Option<Effect> {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        self.due
            .iter()
            .find(|(of, number, _)| *of == kind && (*number == *count || *number == EVERY))
            .map(|(_, _, effect)| *effect)
    }
}

/// Stands for every number.
const EVERY: u64 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_strikes_where_it_says() {
        let mut plan = Plan::parse("create@2, copy@1:corrupt,work@*:lost").unwrap();
        assert_eq!(plan.next(Kind::Create), None);
        assert_eq!(plan.next(Kind::Create), Some(Effect::Refused));
        assert_eq!(plan.next(Kind::Create), None);
        assert_eq!(plan.next(Kind::Copy), Some(Effect::Corrupt));
        assert_eq!(plan.next(Kind::Work), Some(Effect::Lost));
        assert_eq!(plan.next(Kind::Work), Some(Effect::Lost));
    }

    #[test]
    fn a_wrong_plan_is_refused() {
        for wrong in [
            "copy",
            "copy@0",
            "copy@x",
            "walk@1",
            "copy@1:blue",
            "pin@1:late",
        ] {
            assert!(Plan::parse(wrong).is_err(), "{wrong}");
        }
    }
}
