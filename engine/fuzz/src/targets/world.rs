//! The engine against its model.

use arbitrary::{Result, Unstructured};
use mmsb_harness::scenario::{Cell, print};
use mmsb_harness::world::generate::{self, Choice, Profile};
use mmsb_harness::world::{self, Context};

const MAX_CHOICES: usize = 80;

/// A valid scenario made of the input: engine and model agree after every step.
pub fn world(input: &[u8]) {
    let mut choices = Vec::new();
    let _ = draw(&mut Unstructured::new(input), &mut choices);
    let scenario = generate::scenario(&choices, Profile::default());
    let outcome = world::run(&scenario, &Cell::default(), &Context::default());
    if let Some(failure) = outcome.failure() {
        panic!("{failure}\n\n{}", print(&scenario));
    }
}

fn draw(u: &mut Unstructured<'_>, choices: &mut Vec<Choice>) -> Result<()> {
    while choices.len() < MAX_CHOICES && !u.is_empty() {
        choices.push(Choice {
            verb: u.arbitrary()?,
            a: u32::from(u.arbitrary::<u16>()?),
            b: u32::from(u.arbitrary::<u16>()?),
            c: u.arbitrary()?,
        });
    }
    Ok(())
}
