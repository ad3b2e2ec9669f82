//! Strategies that generate scenarios, for property tests and for whoever wants random ones.
//!
//! The scenarios have a right shape and use all of the language; they need not make sense, so the
//! semantic check may refuse them.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::ErrorKind;
use super::ast::{
    Allocate, Annotate, AxisValue, Capability, Compress, Connect, Custom, Delta, Derive,
    DeviceKind, Diff, Drain, Durability, Elementwise, Fails, FileArg, Lane, Location, Masked,
    Matrix, NewPage, Options, OverwriteFile, PageArg, PageSpec, Propagation, Repeat, Replay,
    ReplayTo, Retain, Scatter, Scenario, Semiring, Slice, Snapshot, Step, StorageKind, Storm,
    StormEnd, Subscribe, Trace, Transaction, Transfer, TruncateFile, Via, Write, WriteFile,
};
use super::crash::{Crash, Tear, Window};
use super::data::{Data, Fill, Random, Region, Run};
use super::expect::{
    Bound, Content, Counter, DeviceState, Epoch, Equal, Expect, Meta, PageCheck, Residency,
    UnchangedSince, Whereabouts,
};
use super::fault::{Act, DeviceAct, FaultKind, Holds, Inject, Site, Target};
use super::num::{Expr, Num, Op, Unit};
use super::value::{
    Artefact, Base64, Digest, DigestHex, F32, F64, FileRef, Hex, Located, Map, Name, Names,
    StateDigest, Which,
};

fn one_of<T: Clone + std::fmt::Debug + 'static>(values: &'static [T]) -> impl Strategy<Value = T> {
    proptest::sample::select(values)
}

/// Any name, some with expressions in braces.
pub fn name() -> BoxedStrategy<Name> {
    prop_oneof![
        8 => "[a-z_][a-z0-9_]{0,6}",
        2 => "[A-Za-z0-9_][A-Za-z0-9_.-]{0,9}",
        1 => "[a-z]{1,3}\\{[ij] \\+ [0-9]\\}",
    ]
    .prop_map(Name::new)
    .boxed()
}

/// Any number, size or expression.
pub fn num() -> BoxedStrategy<Num> {
    let leaf = prop_oneof![
        4 => (0u64..5000).prop_map(Expr::Int),
        1 => any::<u64>().prop_map(Expr::Int),
        2 => (0u64..100, one_of(&Unit::ALL)).prop_map(|(count, unit)| Expr::Size(count, unit)),
        2 => one_of(&["i", "n", "size", "KiB_total"]).prop_map(|name| Expr::Var(name.to_owned())),
    ];
    let ops = [
        Op::Add,
        Op::Sub,
        Op::Mul,
        Op::Div,
        Op::Rem,
        Op::Min,
        Op::Max,
    ];
    leaf.prop_recursive(3, 8, 2, move |inner| {
        (proptest::sample::select(ops.to_vec()), inner.clone(), inner)
            .prop_map(|(op, left, right)| Expr::Binary(op, Box::new(left), Box::new(right)))
    })
    .prop_map(Num::new)
    .boxed()
}

fn names() -> BoxedStrategy<Names> {
    vec(name(), 0..4).prop_map(Names).boxed()
}

fn text() -> BoxedStrategy<String> {
    prop_oneof![
        "[ -~]{0,12}",
        any::<String>(),
        one_of(&[
            "yes", "null", "~", "1e5", "0x1f", ".inf", "- a", "a: b", "#", "12", "", " x "
        ])
        .prop_map(str::to_owned),
    ]
    .boxed()
}

fn bytes() -> BoxedStrategy<Vec<u8>> {
    vec(any::<u8>(), 0..24).boxed()
}

fn hex() -> BoxedStrategy<Hex> {
    bytes().prop_map(Hex::new).boxed()
}

fn map<T: std::fmt::Debug + 'static>(value: BoxedStrategy<T>) -> BoxedStrategy<Map<T>> {
    vec((name(), value), 0..4)
        .prop_map(|mut entries| {
            // A mapping has each key once.
            let mut seen = std::collections::BTreeSet::new();
            entries.retain(|(name, _)| seen.insert(name.to_string()));
            Map(entries)
        })
        .boxed()
}

fn region() -> BoxedStrategy<Region> {
    (name(), num(), option::of(num()))
        .prop_map(|(page, at, len)| Region { page, at, len })
        .boxed()
}

/// Any data, in every form.
pub fn data() -> BoxedStrategy<Data> {
    // Every NaN is read back as the same one.
    let f32s = any::<f32>().prop_map(|value| F32(if value.is_nan() { f32::NAN } else { value }));
    let f64s = any::<f64>().prop_map(|value| F64(if value.is_nan() { f64::NAN } else { value }));
    prop_oneof![
        4 => hex().prop_map(Data::Hex),
        1 => text().prop_map(Data::Text),
        1 => bytes().prop_map(|bytes| Data::Base64(Base64(bytes))),
        1 => bytes().prop_map(Data::U8),
        1 => vec(any::<u32>(), 0..5).prop_map(Data::U32),
        1 => vec(any::<i64>(), 0..5).prop_map(Data::I64),
        1 => vec(f32s, 0..5).prop_map(Data::F32),
        1 => vec(f64s, 0..5).prop_map(Data::F64),
        1 => (num(), option::of(num())).prop_map(|(seed, len)| Data::Random(Random { seed, len })),
        1 => (num(), option::of(num())).prop_map(|(byte, len)| Data::Fill(Fill { byte, len })),
        1 => num().prop_map(Data::Zero),
        1 => region().prop_map(Data::Copy),
    ]
    .boxed()
}

fn derive() -> BoxedStrategy<Derive> {
    use Semiring::{MaxPlus, MinPlus, OrAnd, PlusTimes, XorAnd};
    let elementwise = (
        one_of(&[PlusTimes, MinPlus, MaxPlus, OrAnd, XorAnd]),
        one_of(&[Lane::U8, Lane::U32, Lane::I64, Lane::F32, Lane::F64]),
        names(),
        any::<bool>(),
    )
        .prop_map(|(semiring, lane, of, pairs)| Elementwise {
            semiring,
            lane,
            of,
            pairs,
        });
    let custom = (name(), any::<u32>(), option::of(hex()), names()).prop_map(
        |(name, version, params, of)| Custom {
            name,
            version,
            params,
            of,
        },
    );
    prop_oneof![
        names().prop_map(Derive::Copy),
        (name(), num()).prop_map(|(of, at)| Derive::Slice(Slice { of, at })),
        names().prop_map(Derive::Concat),
        names().prop_map(Derive::Xor),
        elementwise.prop_map(Derive::Elementwise),
        custom.prop_map(Derive::Custom),
    ]
    .boxed()
}

fn location() -> BoxedStrategy<Location> {
    one_of(&[Location::Host, Location::Device, Location::Unified]).boxed()
}

fn page_spec() -> BoxedStrategy<PageSpec> {
    (
        option::of(num()),
        option::of(data()),
        map(text()),
        option::of(derive()),
        option::of(location()),
    )
        .prop_map(|(size, fill, meta, derive, location)| PageSpec {
            size,
            fill,
            meta,
            derive,
            location,
        })
        .boxed()
}

fn new_page() -> BoxedStrategy<NewPage> {
    (name(), page_spec())
        .prop_map(
            |(
                page,
                PageSpec {
                    size,
                    fill,
                    meta,
                    derive,
                    location,
                },
            )| NewPage {
                page,
                size,
                fill,
                meta,
                derive,
                location,
            },
        )
        .boxed()
}

fn durability() -> BoxedStrategy<Durability> {
    one_of(&[Durability::Memory, Durability::Buffered, Durability::Sync]).boxed()
}

fn options() -> BoxedStrategy<Options> {
    (
        (
            option::of(one_of(&[StorageKind::Sim, StorageKind::Fs])),
            option::of(one_of(&[Via::Rust, Via::C])),
        ),
        option::of(durability()),
        option::of(one_of(&[Propagation::Eager, Propagation::Deferred])),
        option::of(one_of(&[Retain::All, Retain::Checkpoints])),
        option::of(one_of(&[Compress::None, Compress::Zstd])),
        (
            option::of(num()),
            option::of(num()),
            option::of(num()),
            option::of(num()),
            option::of(num()),
        ),
        (
            option::of(location()),
            option::of(one_of(&[
                DeviceKind::Host,
                DeviceKind::Simulated,
                DeviceKind::Cuda,
            ])),
            option::of(num()),
            option::of(num()),
            option::of(num()),
        ),
    )
        .prop_map(
            |((storage, via), durability, propagation, retain, compress, numbers, on_device)| {
                let (threads, appliers, segment, arena, history) = numbers;
                let (location, device, device_memory, device_seed, resident) = on_device;
                Options {
                    storage,
                    via,
                    durability,
                    propagation,
                    retain,
                    compress,
                    threads,
                    appliers,
                    segment,
                    arena,
                    history,
                    location,
                    device,
                    device_memory,
                    device_seed,
                    resident,
                }
            },
        )
        .boxed()
}

fn file() -> BoxedStrategy<FileRef> {
    let which = prop_oneof![
        Just(Which::First),
        Just(Which::Last),
        any::<u32>().prop_map(Which::Nth)
    ];
    prop_oneof![
        (one_of(&Artefact::ALL), which)
            .prop_map(|(artefact, which)| FileRef::Own { artefact, which }),
        "[A-Za-z0-9_-][A-Za-z0-9._-]{0,9}".prop_map(FileRef::Foreign),
    ]
    .boxed()
}

/// Any check.
pub fn expect() -> BoxedStrategy<Expect> {
    let digest = prop_oneof![
        any::<[u8; 32]>().prop_map(|bytes| Digest::Blake3(DigestHex(bytes))),
        any::<[u8; 32]>().prop_map(|bytes| Digest::Sha256(DigestHex(bytes))),
        any::<[u8; 20]>().prop_map(|bytes| Digest::Git(DigestHex(bytes))),
    ];
    let content = prop_oneof![
        data().prop_map(Content::Data),
        digest.prop_map(Content::Digest)
    ];
    let page = (
        name(),
        option::of(name()),
        num(),
        option::of(num()),
        content,
    )
        .prop_map(|(page, snapshot, at, len, content)| PageCheck {
            page,
            snapshot,
            at,
            len,
            content,
        });
    let equal = (name(), num(), option::of(num()), region())
        .prop_map(|(page, at, len, to)| Equal { page, at, len, to });
    let bound = prop_oneof![
        num().prop_map(Bound::Is),
        num().prop_map(Bound::AtLeast),
        num().prop_map(Bound::AtMost),
    ];
    prop_oneof![
        page.prop_map(Expect::Page),
        any::<[u8; 32]>().prop_map(|bytes| Expect::State(StateDigest(bytes))),
        names().prop_map(Expect::Same),
        equal.prop_map(Expect::Equal),
        region().prop_map(Expect::Zero),
        (option::of(name()), name())
            .prop_map(|(page, mark)| Expect::UnchangedSince(UnchangedSince { page, mark })),
        (name(), bound).prop_map(|(counter, bound)| Expect::Counter(Counter { counter, bound })),
        (name(), num()).prop_map(|(page, is)| Expect::Epoch(Epoch { page, is })),
        (name(), one_of(&Whereabouts::ALL))
            .prop_map(|(page, is)| Expect::Residency(Residency { page, is })),
        names().prop_map(Expect::OnDevice),
        (name(), text(), option::of(text())).prop_map(|(page, key, value)| Expect::Meta(Meta {
            page,
            key,
            value
        })),
        num().prop_map(Expect::Pages),
        name().prop_map(Expect::Stale),
        num().prop_map(Expect::Lsn),
        one_of(&[
            DeviceState::Sound,
            DeviceState::Unsound,
            DeviceState::Failed(ErrorKind::DeviceFailed),
            DeviceState::Failed(ErrorKind::DeviceLost),
        ])
        .prop_map(Expect::Device),
    ]
    .boxed()
}

fn replay() -> BoxedStrategy<Replay> {
    let to = prop_oneof![
        Just(ReplayTo::End),
        "[a-z_][a-z0-9_]{0,6}"
            .prop_filter("`end` is no mark", |text| text != "end")
            .prop_map(|text| ReplayTo::Mark(Name::new(text))),
        num().prop_map(ReplayTo::Lsn),
    ];
    (to, option::of(num()), option::of(name()))
        .prop_map(|(to, appliers, same_as)| Replay {
            to,
            appliers,
            same_as,
        })
        .boxed()
}

/// Steps that hold no others and stage a change.
fn staging() -> BoxedStrategy<Step> {
    let run = (num(), data()).prop_map(|(at, data)| Run { at, data });
    prop_oneof![
        (name(), num(), data()).prop_map(|(page, at, data)| Step::Write(Write { page, at, data })),
        (name(), vec(run, 0..4)).prop_map(|(page, runs)| Step::Delta(Delta { page, runs })),
        (name(), num(), hex(), data()).prop_map(|(page, at, mask, data)| Step::Masked(Masked {
            page,
            at,
            mask,
            data
        })),
        (name(), data()).prop_map(|(page, to)| Step::Diff(Diff { page, to })),
        (name(), num(), num(), num()).prop_map(|(page, runs, len, seed)| Step::Scatter(Scatter {
            page,
            runs,
            len,
            seed
        })),
        vec(new_page(), 0..3).prop_map(|pages| Step::Allocate(Allocate { pages })),
        name().prop_map(|page| Step::Free(PageArg { page })),
        (name(), option::of(name())).prop_map(|(page, old)| Step::Transfer(Transfer { page, old })),
        (name(), derive()).prop_map(|(page, derive)| Step::Connect(Connect { page, derive })),
        name().prop_map(|page| Step::Disconnect(PageArg { page })),
        (name(), text(), option::of(text()))
            .prop_map(|(page, key, value)| Step::Annotate(Annotate { page, key, value })),
    ]
    .boxed()
}

fn window() -> BoxedStrategy<Window> {
    let tear = || (num(), num(), num()).prop_map(|(change, from, to)| Tear { change, from, to });
    let one = move || (option::of(num()), vec(num(), 0..3), option::of(tear()));
    (one(), option::of(one()))
        .prop_map(|((at, keep, tear), again)| Window {
            at,
            keep,
            tear,
            again: again.map(|(at, keep, tear)| {
                Box::new(Window {
                    at,
                    keep,
                    tear,
                    again: None,
                })
            }),
        })
        .boxed()
}

fn inject() -> BoxedStrategy<Inject> {
    let site = (
        proptest::sample::select(Holds::ALL),
        proptest::sample::select(Act::ALL),
    )
        .prop_map(|(holds, act)| Site { holds, act })
        .prop_filter("there is no such operation", |site| site.exists());
    let act = proptest::sample::select(DeviceAct::ALL);
    let target =
        prop_oneof![4 => site.prop_map(Target::Storage), 1 => act.prop_map(Target::Device)];
    let number = || option::of(num());
    let kind = proptest::sample::select(FaultKind::ALL.to_vec());
    (target, number(), kind, number(), number())
        .prop_map(|(on, nth, kind, at, seed)| Inject {
            on,
            nth,
            kind,
            at,
            seed,
        })
        .boxed()
}

/// Steps that hold no others and do something else.
fn acting() -> BoxedStrategy<Step> {
    let bare = [
        Step::Abort,
        Step::Checkpoint,
        Step::Close,
        Step::Crash(Crash::Forgetful),
        Step::Crash(Crash::Process),
        Step::Crash(Crash::Each { again: false }),
        Step::Crash(Crash::Each { again: true }),
        Step::Heal,
        Step::RestoreDevice,
        Step::Propagate,
        Step::Maintain,
    ];
    prop_oneof![
        proptest::sample::select(bare.to_vec()),
        option::of(durability()).prop_map(Step::Commit),
        options().prop_map(Step::Open),
        options().prop_map(Step::Reopen),
        name().prop_map(Step::Mark),
        replay().prop_map(Step::Replay),
        (name(), names()).prop_map(|(name, pages)| Step::Snapshot(Snapshot { name, pages })),
        names().prop_map(Step::Evict),
        names().prop_map(Step::Prefetch),
        map(num()).prop_map(Step::Let),
        text().prop_map(|file| Step::Trace(Trace {
            file: Located::new(file)
        })),
        (name(), num()).prop_map(|(name, capacity)| Step::Subscribe(Subscribe { name, capacity })),
        (name(), option::of(num()), option::of(num()))
            .prop_map(|(name, events, lost)| Step::Drain(Drain { name, events, lost })),
        file().prop_map(|file| Step::RemoveFile(FileArg { file })),
        (file(), num(), data()).prop_map(|(file, at, data)| Step::OverwriteFile(OverwriteFile {
            file,
            at,
            data
        })),
        (file(), num()).prop_map(|(file, len)| Step::TruncateFile(TruncateFile { file, len })),
        (file(), data()).prop_map(|(file, data)| Step::WriteFile(WriteFile { file, data })),
        window().prop_map(|window| Step::Crash(if window == Window::default() {
            Crash::Forgetful
        } else {
            Crash::At(window)
        })),
        inject().prop_map(Step::Fault),
        num().prop_map(|seed| Step::Crash(Crash::Drawn(seed))),
        expect().prop_map(Step::Expect),
    ]
    .boxed()
}

/// Any step, those that hold others included.
pub fn step() -> BoxedStrategy<Step> {
    prop_oneof![staging(), acting()]
        .prop_recursive(2, 12, 3, |inner| {
            let steps = || vec(inner.clone().prop_map(Located::new), 0..3);
            prop_oneof![
                (option::of(durability()), steps()).prop_map(|(durability, steps)| {
                    Step::Transaction(Transaction { durability, steps })
                }),
                vec(steps(), 0..3).prop_map(Step::Concurrent),
                (num(), option::of(name()), steps()).prop_map(|(times, counter, steps)| {
                    Step::Repeat(Repeat {
                        times,
                        counter,
                        steps,
                    })
                }),
                (proptest::sample::select(ErrorKind::ALL), steps())
                    .prop_map(|(error, steps)| Step::Fails(Fails { error, steps })),
                (
                    vec(inject(), 0..3),
                    one_of(&[StormEnd::Power, StormEnd::Process]),
                    steps()
                )
                    .prop_map(|(faults, then, steps)| Step::Storm(Storm {
                        faults,
                        then,
                        steps
                    })),
            ]
        })
        .boxed()
}

fn matrix() -> BoxedStrategy<Matrix> {
    let value = || {
        prop_oneof![
            any::<u64>().prop_map(|value| AxisValue::Num(Num::from(value))),
            (0u64..100, one_of(&Unit::ALL))
                .prop_map(|(count, unit)| AxisValue::Num(Num::new(Expr::Size(count, unit)))),
            "[a-z_][a-z0-9_-]{0,6}".prop_map(|word| AxisValue::Word(Name::new(word))),
        ]
    };
    (
        map(vec(value(), 0..4).boxed()),
        vec(map(value().boxed()), 0..3),
        vec(map(value().boxed()), 0..3),
    )
        .prop_map(|(axes, exclude, include)| Matrix {
            axes,
            exclude,
            include,
        })
        .boxed()
}

/// Any scenario of the right shape.
pub fn scenario() -> BoxedStrategy<Scenario> {
    use Capability::{Filesystem, Gpu, Linux, Multicore, Sim};
    (
        text(),
        vec(name(), 0..3),
        vec(one_of(&[Linux, Filesystem, Sim, Gpu, Multicore]), 0..3),
        option::of(matrix()),
        options(),
        map(num()),
        map(page_spec()),
        vec(step().prop_map(Located::new), 0..8),
    )
        .prop_map(
            |(about, tags, requires, matrix, options, lets, pages, steps)| Scenario {
                version: Located::new(super::ast::VERSION),
                about,
                tags,
                requires,
                matrix,
                options,
                lets,
                pages,
                steps,
            },
        )
        .boxed()
}
