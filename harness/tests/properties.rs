//! Random scenarios: the engine and the model agree after every step, whatever is done.
//!
//! A failure is shrunk by dropping and lowering choices and then by dropping steps, and printed as the scenario that it is, ready to be put
//! among the others. `PROPTEST_CASES` sets how many there are; 256 if unset.

use mmsb_harness::scenario::{self, Cell, Scenario};
use mmsb_harness::world::generate::{self, Choice, Profile};
use mmsb_harness::world::{self, Context, Difference, Failure, Outcome, SimulatedStorage};
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError};

/// Choices a scenario.
const CHOICES: usize = 120;

fn choices() -> impl Strategy<Value = Vec<Choice>> {
    let choice = (any::<u16>(), any::<u32>(), any::<u32>(), any::<u32>());
    prop::collection::vec(
        choice.prop_map(|(verb, a, b, c)| Choice { verb, a, b, c }),
        1..CHOICES,
    )
}

fn config() -> Config {
    Config {
        // Seeds are no use to a reader; the scenario that is printed is.
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        max_shrink_iters: 2_000,
        ..Config::default()
    }
}

/// What a scenario comes to on storage of its own.
fn outcome(scenario: &Scenario, storage: &SimulatedStorage) -> Outcome {
    let context = Context {
        simulated: Some(storage.clone()),
        ..Context::default()
    };
    world::run(scenario, &Cell::default(), &context)
}

/// What a failure is about, whatever the numbers in it: so a shorter scenario that fails in another way is not
/// taken for the same.
fn signature(failure: &Failure) -> String {
    failure
        .message
        .chars()
        .filter(|c| !c.is_ascii_digit())
        .collect()
}

/// Runs the scenario of these choices. If it fails, what is said has the shortest scenario that fails likewise.
fn run(choices: &[Choice]) -> Result<SimulatedStorage, TestCaseError> {
    let made = generate::scenario(choices, Profile::default());
    let storage = SimulatedStorage::new();
    let Some(failure) = outcome(&made, &storage).failure().map(signature) else {
        return Ok(storage);
    };
    let fails = |candidate: &Scenario| {
        let outcome = outcome(candidate, &SimulatedStorage::new());
        outcome
            .failure()
            .is_some_and(|other| signature(other) == failure)
    };
    let shrunk = world::shrink(&made, 500, fails);
    let outcome = outcome(&shrunk, &SimulatedStorage::new());
    let failure = outcome
        .failure()
        .map(ToString::to_string)
        .unwrap_or_default();
    Err(TestCaseError::fail(format!(
        "{failure}\n\n{}",
        scenario::print(&shrunk)
    )))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn engine_and_model_agree(choices in choices()) {
        run(&choices)?;
    }

    #[test]
    fn two_runs_write_the_same_files(choices in choices()) {
        let (first, second) = (run(&choices)?, run(&choices)?);
        let (first, second) = (first.files(), second.files());
        let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        prop_assert_eq!(names(&first), names(&second));
        for ((name, first), (_, second)) in first.iter().zip(&second) {
            let difference = Difference::between(name, 0, ["first", "second"], first, second);
            prop_assert!(difference.is_none(), "{}", difference.map(|it| it.to_string()).unwrap_or_default());
        }
    }
}
