//! The abstract syntax of a scenario: the only vocabulary in which the engine is driven.
//!
//! Hand-written YAML, generators, the fuzzer, the shrinker and imported traces all make these
//! types; the world executes them; the printer writes them back as the YAML a person writes.
//! The doc comments here are also the descriptions in `scenarios/schema.json`, hence what an editor shows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::crash::Crash;
use super::data::{Data, Run};
use super::error_kind::ErrorKind;
use super::expect::Expect;
use super::fault::Inject;
use super::num::Num;
use super::value::{FileRef, Hex, Located, Map, Name, Names};

pub use super::settings::{
    AxisValue, Capability, Compress, DeviceKind, Durability, Location, Matrix, Options,
    Propagation, Retain, StorageKind, Via,
};

/// The only version of the language so far.
pub const VERSION: u64 = 1;

/// One scenario: pages, and steps that change and check them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The version of the language, at present 1.
    pub version: Located<u64>,
    /// One or two sentences on what the scenario shows.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Words by which runs select scenarios, such as `smoke` or `replay`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Name>,
    /// What the machine must offer; where it does not, the test is listed as ignored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<Capability>,
    /// Expands the file to one test for each combination of its axes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matrix: Option<Matrix>,
    /// How the bus is opened.
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub options: Options,
    /// Variables for expressions, evaluated from top to bottom; a later one may use an earlier.
    #[serde(default, rename = "let", skip_serializing_if = "Map::is_empty")]
    pub lets: Map<Num>,
    /// Pages that are allocated and committed, as one transaction, before the first step.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub pages: Map<PageSpec>,
    /// What is done, in order.
    pub steps: Steps,
}

/// A list of steps, each with its position in the file.
pub type Steps = Vec<Located<Step>>;

/// A page: only a size (`a: 4KiB`), or a mapping.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(transform = super::schema::or_num)]
pub struct PageSpec {
    /// Length in bytes, 1 to 4 GiB; a derived page may leave it out and then has the length that
    /// its transform gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Num>,
    /// The first content; zeros if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fill: Option<Data>,
    /// Annotations of the page.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub meta: Map<String>,
    /// Makes it a derived page: its bytes are computed from other pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derive: Option<Derive>,
    /// Where it lies; as the option `location` says if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
}

form! {
    /// How a derived page is computed from its parents.
    pub enum Derive ("the transform") {
        /// The same bytes as the parent.
        "copy" => Copy(Names),
        /// A range of the parent.
        "slice" => Slice(Slice),
        /// The parents one after another.
        "concat" => Concat(Names),
        /// Exclusive or of parents of equal length.
        "xor" => Xor(Names),
        /// Lane by lane combination of the parents by a semiring.
        "elementwise" => Elementwise(Elementwise),
        /// A transform that is registered by name and version.
        "custom" => Custom(Custom),
    }
}

/// A range of one parent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// The parent.
    pub of: Name,
    /// Where the range starts in the parent; 0 if left out. Its length is that of the derived
    /// page, or up to the parent's end where the page gives no size.
    #[serde(default, skip_serializing_if = "Num::is_zero")]
    pub at: Num,
}

/// Lane by lane combination of pages of equal length, in the order of the parents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Elementwise {
    /// The two operations, additive first.
    pub semiring: Semiring,
    /// The type of one lane, little endian.
    pub lane: Lane,
    /// The parents.
    pub of: Names,
    /// If true, parents are taken in pairs: each pair is multiplied and the products are added.
    /// If false, the additive operation folds all parents.
    #[serde(default, skip_serializing_if = "is_false")]
    pub pairs: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The two operations of an elementwise combination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Semiring {
    /// Sum of products.
    PlusTimes,
    /// Minimum of sums: shortest paths.
    MinPlus,
    /// Maximum of sums: critical paths.
    MaxPlus,
    /// Or of ands, bit by bit; integer lanes only.
    OrAnd,
    /// Exclusive or of ands, bit by bit; integer lanes only.
    XorAnd,
}

/// The type of one lane, little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Lane {
    /// One byte.
    U8,
    /// Four bytes, unsigned.
    U32,
    /// Eight bytes, signed.
    I64,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
}

/// A transform that is registered by name and version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Custom {
    /// The registered name. `test.fails-on-ff` is offered by every world.
    pub name: Name,
    /// The registered version; 1 if left out.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub version: u32,
    /// The parameters as bytes; none if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Hex>,
    /// The parents.
    pub of: Names,
}

fn one() -> u32 {
    1
}

fn is_one(value: &u32) -> bool {
    *value == 1
}

steps! {
    /// One step. A step is a mapping with one key, its verb; a verb without arguments stands alone.
    pub enum Step {
        /// Writes bytes to a page.
        "write" => Write(Write),
        /// Writes several runs to a page as one sparse delta.
        "delta" => Delta(Delta),
        /// Writes only the bytes that a bit mask selects.
        "masked" => Masked(Masked),
        /// Compares a page with new content and writes only what differs.
        "diff" => Diff(Diff),
        /// Writes seeded random bytes to seeded random places of a page.
        "scatter" => Scatter(Scatter),
        /// Allocates one page, or several (`pages: [...]`).
        "allocate" => Allocate(Allocate),
        /// Frees a page.
        "free" => Free(PageArg),
        /// Moves a page to a new owner: it keeps its bytes, its old id becomes stale.
        "transfer" => Transfer(Transfer),
        /// Makes a page derived.
        "connect" => Connect(Connect),
        /// Makes a derived page a plain one again; it keeps its bytes.
        "disconnect" => Disconnect(PageArg),
        /// Sets or removes an annotation of a page.
        "annotate" => Annotate(Annotate),
        /// Commits what was staged since the last commit.
        "commit" => Commit(Option<Durability>),
        /// Drops what was staged since the last commit.
        "abort" => Abort,
        /// Runs its steps and commits them as one transaction.
        "transaction" => Transaction(Transaction),
        /// Writes a checkpoint.
        "checkpoint" => Checkpoint,
        /// Closes the bus in order.
        "close" => Close,
        /// Opens the bus on what the storage holds, with changed options if any are given.
        "open" => Open(Options),
        /// Closes and opens the bus.
        "reopen" => Reopen(Options),
        /// Drops the bus and, as a power cut does, what was not synced; the next step is usually `open`. `crash: each`
        /// tries every moment since the beginning or the last crash, and everything that can be left then.
        "crash" => Crash(Crash),
        /// Makes an operation of the simulated storage or of the simulated device fail, at its n-th time from here on.
        "fault" => Fault(Inject),
        /// Lifts all faults: the storage is sound again, and holds what was written to it; a device that was lost can be used again,
        /// once it was filled anew.
        "heal" => Heal,
        /// Empties the device, and fills it anew from the newest checkpoint and the log.
        "restore_device" => RestoreDevice,
        /// Evicts pages from device memory; those that have to stay there are passed over. Their bytes are in the log.
        "evict" => Evict(Names),
        /// Brings pages to device memory before they are needed there.
        "prefetch" => Prefetch(Names),
        /// Runs its steps while the storage may fail. The first error that a fault explains ends them; then the
        /// power or the process goes, the storage heals, and the bus opens, which must find everything acknowledged.
        "storm" => Storm(Storm),
        /// Recomputes the derived pages that are behind.
        "propagate" => Propagate,
        /// Lets the bus do its deferred work: rotate, recycle and trim the log.
        "maintain" => Maintain,
        /// Remembers the LSN, the state digest and every page's digest under a label.
        "mark" => Mark(Name),
        /// Rebuilds the state from the log alone, and checks it.
        "replay" => Replay(Replay),
        /// Takes a consistent cut of pages under a name, for `expect: {snapshot: ...}`.
        "snapshot" => Snapshot(Snapshot),
        /// Runs each list of steps on a thread of its own, and waits for all.
        "concurrent" => Concurrent(Vec<Steps>),
        /// Runs its steps several times.
        "repeat" => Repeat(Repeat),
        /// Sets variables, from top to bottom.
        "let" => Let(Map<Num>),
        /// Runs the steps of a trace file, one JSON step a line, without loading it whole.
        "trace" => Trace(Trace),
        /// Subscribes to change events.
        "subscribe" => Subscribe(Subscribe),
        /// Reads every waiting event of a subscription, and checks how many there were.
        "drain" => Drain(Drain),
        /// Runs its steps, the last of which must fail with exactly this kind of error.
        "fails" => Fails(Fails),
        /// Removes a file of the closed bus.
        "remove_file" => RemoveFile(FileArg),
        /// Overwrites bytes of a file of the closed bus.
        "overwrite_file" => OverwriteFile(OverwriteFile),
        /// Cuts or extends a file of the closed bus to a length.
        "truncate_file" => TruncateFile(TruncateFile),
        /// Creates or replaces a file of the closed bus.
        "write_file" => WriteFile(WriteFile),
        /// Checks the state of the world.
        "expect" => Expect(Expect),
    }
}

flat! {
    /// Writes bytes to a page.
    pub struct Write {
        /// The page.
        page: Name,
        /// Where the bytes start; 0 if left out.
        #[serde(default, skip_serializing_if = "Num::is_zero")]
        at: Num = Num::ZERO,
    }
    /// The bytes.
    data: Data
}

/// Writes several runs to a page as one sparse delta.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delta {
    /// The page.
    pub page: Name,
    /// The runs; where two overlap, the later wins.
    pub runs: Vec<Run>,
}

flat! {
    /// Writes only the bytes that a bit mask selects.
    pub struct Masked {
        /// The page.
        page: Name,
        /// Where the bytes start; 0 if left out.
        #[serde(default, skip_serializing_if = "Num::is_zero")]
        at: Num = Num::ZERO,
        /// One bit a byte of the data, least significant bit first.
        mask: Hex,
    }
    /// The bytes, of which the mask selects.
    data: Data
}

/// Compares a page with new content and writes only what differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Diff {
    /// The page.
    pub page: Name,
    /// What the page shall hold; if shorter than the page, the rest stays.
    pub to: Data,
}

/// Writes seeded random bytes to seeded random places of a page, as one delta.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scatter {
    /// The page.
    pub page: Name,
    /// How many runs.
    pub runs: Num,
    /// Bytes a run.
    pub len: Num,
    /// The seed that places and bytes are drawn from.
    pub seed: Num,
}

/// The pages that one `allocate` step makes, in order; one is written as `{page: h, size: 64}`,
/// several as `{pages: [...]}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocate {
    /// The pages in order of allocation, at least one.
    pub pages: Vec<NewPage>,
}

/// A page to allocate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPage {
    /// The name by which later steps know the page.
    pub page: Name,
    /// Length in bytes, 1 to 4 GiB; a derived page may leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Num>,
    /// The first content; zeros if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fill: Option<Data>,
    /// Annotations of the page.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub meta: Map<String>,
    /// Makes it a derived page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derive: Option<Derive>,
    /// Where it lies; as the option `location` says if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
}

/// A page, written as its name or as `{page: name}`.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields, transform = super::schema::or_name)]
pub struct PageArg {
    /// The page.
    pub page: Name,
}

/// Moves a page to a new owner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// The page; its name stands for the new id from here on.
    pub page: Name,
    /// A name for the old id, so that later steps can show that it is stale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Name>,
}

flat! {
    /// Makes a page derived.
    pub struct Connect {
        /// The page that becomes derived.
        page: Name,
    }
    /// How it is computed.
    derive: Derive
}

/// Sets (`value: ...`) or removes (`remove: true`) an annotation of a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Annotate {
    /// The page.
    pub page: Name,
    /// The key.
    pub key: String,
    /// The value to set, or `None` to remove the key.
    pub value: Option<String>,
}

/// Runs its steps and commits them as one transaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Transaction {
    /// The durability of the commit; that of the options if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
    /// What is staged.
    pub steps: Steps,
}

/// Rebuilds the state from the log alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// How far: `end`, a mark, or an LSN.
    #[serde(default, skip_serializing_if = "ReplayTo::is_end")]
    pub to: ReplayTo,
    /// Threads that apply the log; that of the options if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appliers: Option<Num>,
    /// The mark whose state digest the rebuilt state must have. Where it is left out, replay to a
    /// mark checks that mark, and replay to the end checks the present state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_as: Option<Name>,
}

/// How far a replay goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ReplayTo {
    /// To the end of the log.
    #[default]
    End,
    /// To the LSN of a mark.
    Mark(Name),
    /// To this LSN, inclusive.
    Lsn(Num),
}

impl ReplayTo {
    /// Whether it is the end of the log.
    #[must_use]
    pub fn is_end(&self) -> bool {
        *self == Self::End
    }
}

/// Takes a consistent cut of pages under a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The name of the cut.
    pub name: Name,
    /// The pages in it.
    pub pages: Names,
}

/// Runs its steps several times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// How often.
    pub times: Num,
    /// A variable that counts from 0.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub counter: Option<Name>,
    /// What is repeated.
    pub steps: Steps,
}

/// Runs the steps of a trace file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// The file, relative to the scenario, one JSON step a line.
    pub file: Located<String>,
}

/// Subscribes to change events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subscribe {
    /// The name of the subscription.
    pub name: Name,
    /// How many events it holds before it loses some.
    pub capacity: Num,
}

/// Reads every waiting event of a subscription.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// The subscription.
    pub name: Name,
    /// How many events must have waited; unchecked if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Num>,
    /// How many events must have been lost; unchecked if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Num>,
}

/// Runs its steps, the last of which must fail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fails {
    /// Exactly this kind of error is expected.
    pub error: ErrorKind,
    /// The steps; all but the last must succeed.
    pub steps: Steps,
}

/// Runs its steps while the storage may fail, and recovers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Storm {
    /// What may fail. Unlike with `fault`, an operation that never comes is no error.
    pub faults: Vec<Inject>,
    /// How it ends: `power` if left out.
    #[serde(default, skip_serializing_if = "StormEnd::is_power")]
    pub then: StormEnd,
    /// What is done meanwhile; what comes after the first error is left out.
    pub steps: Steps,
}

/// How a storm ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StormEnd {
    /// The power goes, and with it what was not synced.
    #[default]
    Power,
    /// The process dies, and what it has handed to the operating system stays.
    Process,
}

impl StormEnd {
    /// Whether it is the end that stands for itself.
    #[must_use]
    pub fn is_power(&self) -> bool {
        *self == Self::Power
    }
}

/// A file of the closed bus, written as `log.0` or as `{file: log.0}`.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields, transform = super::schema::or_file)]
pub struct FileArg {
    /// The file.
    pub file: FileRef,
}

flat! {
    /// Overwrites bytes of a file of the closed bus.
    pub struct OverwriteFile {
        /// The file.
        file: FileRef,
        /// Where the bytes start; 0 if left out.
        #[serde(default, skip_serializing_if = "Num::is_zero")]
        at: Num = Num::ZERO,
    }
    /// The bytes.
    data: Data
}

/// Cuts or extends a file of the closed bus to a length.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TruncateFile {
    /// The file.
    pub file: FileRef,
    /// The new length in bytes.
    pub len: Num,
}

flat! {
    /// Creates or replaces a file of the closed bus.
    pub struct WriteFile {
        /// The file.
        file: FileRef,
    }
    /// The bytes.
    data: Data
}
