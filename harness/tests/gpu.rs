//! Traces of allocations: what PyTorch and Python make of ours, what we make of theirs, and the command.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the helpers of a test may fail like the test itself"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mmsb_harness::gpu::generate::{Kind, generate};
use mmsb_harness::gpu::pickle::{Limits, Node, PickleProblem, Writer, read};
use mmsb_harness::gpu::{self, Event, Simulation, Trace, backends, replay};
use proptest::prelude::*;

/// Runs Python, which writes files or checks them. It is a requirement of this test: a skip would look like a pass.
fn python(script: &str, arguments: &[&Path]) -> String {
    let output = Command::new("python3")
        .arg("-c")
        .arg(script)
        .args(arguments)
        .output()
        .expect("python3 runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn mmsb(arguments: &[&str], directory: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mmsb"))
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What the viewer reads, checked by a reader that shares nothing with the writer.
const CHECK_SNAPSHOT: &str = r#"
import pickle, sys
with open(sys.argv[1], 'rb') as file:
    snapshot = pickle.load(file)
live = {}
mapped = {}
for number, event in enumerate(snapshot['device_traces'][0]):
    assert set(event) >= {'action', 'addr', 'size', 'stream', 'time_us', 'frames'}, event
    assert isinstance(event['frames'], list) and event['stream'] == 0
    action, addr, size = event['action'], event['addr'], event['size']
    if action == 'alloc':
        assert addr not in live
        live[addr] = size
    elif action == 'free_requested':
        assert live[addr] == size
    elif action == 'free_completed':
        assert live.pop(addr) == size
    elif action == 'segment_map':
        for granule in range(addr, addr + size, 2 << 20):
            assert granule not in mapped
            mapped[granule] = True
    elif action == 'segment_unmap':
        for granule in range(addr, addr + size, 2 << 20):
            del mapped[granule]
    else:
        assert action == 'oom', action
blocks = {}
for segment in snapshot['segments']:
    assert set(segment) >= {'device', 'address', 'total_size', 'allocated_size', 'active_size', 'stream', 'segment_type', 'blocks'}
    assert segment['device'] == 0 and segment['stream'] == 0
    assert segment['segment_type'] in ('small', 'large')
    assert segment['segment_pool_id'] == (0, 0) and segment['is_expandable'] is True
    at, active = segment['address'], 0
    for block in segment['blocks']:
        assert set(block) == {'address', 'size', 'requested_size', 'state', 'frames'}
        assert block['address'] == at and block['size'] > 0
        at += block['size']
        if block['state'] == 'active_allocated':
            assert 0 < block['requested_size'] <= block['size']
            blocks[block['address']] = block['size']
            active += block['size']
        else:
            assert block['state'] == 'inactive' and block['requested_size'] == 0
    assert at == segment['address'] + segment['total_size']
    assert active == segment['active_size'] == segment['allocated_size']
    for granule in range(segment['address'], at, 2 << 20):
        assert mapped.pop(granule)
assert not mapped, 'mapped, but in no segment'
assert blocks == live, 'the blocks are not what the events come to'
print(len(live), len(snapshot['segments']), len(snapshot['device_traces'][0]))
"#;

#[test]
fn python_reads_a_snapshot_as_the_viewer_does() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("snapshot.pickle");
    for (kind, reserve) in [
        (Kind::Training, "1GiB"),
        (Kind::Churn, "0"),
        (Kind::Growing, "80GiB"),
    ] {
        let trace = directory.path().join("trace.txt");
        let mut text = Vec::new();
        generate(kind, 3000, 5).write(&mut text).unwrap();
        fs::write(&trace, text).unwrap();
        let output = mmsb(
            &[
                "gpu",
                "replay-bench",
                "trace.txt",
                "--repeats",
                "1",
                "--reserve",
                reserve,
                "--snapshot",
                "snapshot.pickle",
                "--memory",
                "48GiB",
            ],
            directory.path(),
        );
        assert!(
            output.status.success(),
            "{kind:?}: {}{}",
            stdout(&output),
            stderr(&output)
        );
        let counts = python(CHECK_SNAPSHOT, &[&file]);
        let live: usize = counts.split(' ').next().unwrap().parse().unwrap();
        assert!(
            live > 0,
            "{kind:?} leaves nothing live, so nothing was checked"
        );

        // What we write as PyTorch does, we read as what PyTorch writes: the same lengths as the pool rounded them.
        let imported = gpu::read(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(imported.format, "pytorch");
        let original = generate(kind, 3000, 5);
        assert_eq!(imported.trace.events().len(), original.events().len());
        for (ours, theirs) in imported.trace.events().iter().zip(original.events()) {
            match (ours, theirs) {
                (Event::Allocate { number: a, .. }, Event::Allocate { number: b, .. })
                | (Event::Free { number: a, .. }, Event::Free { number: b, .. }) => {
                    assert_eq!(a, b);
                }
                _ => panic!("{ours:?} is not {theirs:?}"),
            }
        }
    }
}

/// A snapshot as PyTorch's allocator would dump it, in each protocol that it can have.
const WRITE_SNAPSHOT: &str = r#"
import pickle, sys
frames = [{'filename': 'train.py', 'line': 3, 'name': 'forward'}]
def event(action, addr, size):
    return {'action': action, 'addr': addr, 'size': size, 'stream': 0, 'time_us': 1700000000000000, 'frames': frames}
snapshot = {
    'segments': [{
        'device': 1, 'address': 0x7f0000000000, 'total_size': 2097152, 'allocated_size': 5120, 'active_size': 5120, 'stream': 0,
        'segment_type': 'small', 'segment_pool_id': (0, 0), 'is_expandable': False, 'frames': frames,
        'blocks': [
            {'address': 0x7f0000000000, 'size': 1024, 'requested_size': 1000, 'state': 'active_allocated', 'frames': frames},
            {'size': 4096, 'requested_size': 4000, 'state': 'active_awaiting_free', 'frames': []},
            {'address': 0x7f0000001400, 'size': 2092032, 'requested_size': 0, 'state': 'inactive', 'frames': []},
        ]}],
    'device_traces': [[], [
        event('segment_alloc', 0x7f0000000000, 2097152),
        event('free_requested', 0x7f0000001400, 512),
        event('free_completed', 0x7f0000001400, 512),
        event('alloc', 0x7f0000001400, 2048),
        event('free_completed', 0x7f0000001400, 2048),
        event('alloc', 0x7f0000000000, 1024),
        event('oom', 3000, 1 << 36),
        event('snapshot', 0, 0),
    ]],
    'allocator_settings': {'garbage_collection_threshold': 0.8, 'none': None, 'big': -(1 << 70)},
    'external_annotations': [],
}
for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
    with open(sys.argv[1] + '/' + str(protocol) + '.pickle', 'wb') as file:
        pickle.dump(snapshot, file, protocol)
with open(sys.argv[1] + '/0.pickle', 'wb') as file:
    pickle.dump(snapshot, file, 0)
class Evil:
    def __reduce__(self):
        return (open, (sys.argv[1] + '/executed', 'w'))
class Plain:
    pass
for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
    for name, value in [('evil', Evil()), ('plain', Plain())]:
        with open(sys.argv[1] + '/' + name + str(protocol), 'wb') as file:
            pickle.dump({'segments': [value]}, file, protocol)
"#;

#[test]
fn snapshots_of_every_protocol_are_read_and_code_is_not_run() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: String| -> PathBuf { directory.path().join(name) };
    python(WRITE_SNAPSHOT, &[directory.path()]);
    for protocol in 2..=5 {
        let imported = gpu::read(&fs::read(path(format!("{protocol}.pickle"))).unwrap()).unwrap();
        let lens: Vec<_> = imported
            .trace
            .events()
            .iter()
            .map(|event| match *event {
                Event::Allocate { number, len_bytes } => ('a', number, len_bytes),
                Event::Free { number, len_bytes } => ('f', number, len_bytes),
            })
            .collect();
        // First what is older than the recording: the block without an event, then what is freed without an allocation.
        let expected = [
            ('a', 0, 4000),
            ('a', 1, 512),
            ('f', 1, 512),
            ('a', 2, 2048),
            ('f', 2, 2048),
            ('a', 3, 1024),
        ];
        assert_eq!(lens, expected, "protocol {protocol}");
        assert!(
            imported.notes[0].starts_with("2 allocations are older"),
            "{:?}",
            imported.notes
        );
        for name in ["evil", "plain"] {
            let bytes = fs::read(path(format!("{name}{protocol}"))).unwrap();
            let problem = read(&bytes, &Limits::default()).unwrap_err().problem;
            assert!(
                matches!(problem, PickleProblem::RunsCode { .. }),
                "{name}, protocol {protocol}: {problem:?}"
            );
            let refusal = gpu::read(&bytes).unwrap_err().to_string();
            assert!(
                refusal.contains("would import or call something"),
                "{refusal}"
            );
        }
    }
    assert!(!path("executed".to_owned()).exists());
    let refusal = gpu::read(&fs::read(path("0.pickle".to_owned())).unwrap()).unwrap_err();
    assert!(
        refusal
            .to_string()
            .contains("pickle of protocol 2 or later"),
        "{refusal}"
    );
}

#[test]
fn a_pickle_cannot_cost_more_than_its_length() {
    let limits = Limits {
        nodes: 100,
        depth: 10,
    };
    let refusal = |bytes: &[u8]| read(bytes, &limits).unwrap_err().to_string();
    // A text that says to have 2^63 bytes; one that has fewer than it says; a number of 2^31 bytes.
    assert!(refusal(b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc").contains("cut off"));
    assert!(refusal(b"\x80\x02X\x05\0\0\0abc").starts_with("byte 2: the pickle ends too early"));
    assert!(refusal(b"\x80\x02\x8b\0\0\0\x7f").contains("cut off"));
    assert!(refusal(&[&b"\x80\x02\x8a\x11"[..], &[0; 17]].concat()).contains("more than 16 bytes"));
    assert!(refusal(&b"(".repeat(50)).contains("more than 10 containers"));
    assert!(refusal(&b"N".repeat(500)).contains("more than 100 values"));
    for wrong in [
        &b"."[..],
        b"e.",
        b"]e.",
        b"(.",
        b"Na.",
        b"1.",
        b"}(Nu.",
        b"h\0.",
        b"\x85.",
        b"](a.",
    ] {
        assert!(
            refusal(wrong).contains("which is not there"),
            "{wrong:?}: {}",
            refusal(wrong)
        );
    }
    assert!(refusal(b"\x80\x02\xff").contains("opcode 0xff is not read"));
    assert_eq!(
        refusal(b""),
        "byte 0: the pickle ends too early: it is cut off"
    );
    // A list that holds itself is no trouble.
    let own = read(b"\x80\x02]q\0h\0a.", &limits).unwrap();
    assert_eq!(own.items(own.root()), Some(&[own.root()][..]));
    let nothing = gpu::read(b"\x80\x02}.").unwrap_err().to_string();
    assert!(nothing.contains("it has no list `segments`"), "{nothing}");
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes, &Limits { nodes: 1000, depth: 10 });
        let _ = gpu::read(&bytes);
    }

    /// Opcodes that are valid more often than random bytes.
    #[test]
    fn any_opcodes_are_read_or_refused(
        opcodes in prop::collection::vec(
            prop::sample::select(&b"(.012NJKMG])}tldaesuqhXU\x85\x86\x87\x88\x94\0\x01"[..]),
            0..60,
        ),
    ) {
        let _ = read(&opcodes, &Limits { nodes: 1000, depth: 10 });
    }

    #[test]
    fn numbers_and_texts_come_back(values in prop::collection::vec((any::<u64>(), 0..64_u32, ".*"), 0..20)) {
        let mut writer = Writer::new(Vec::new()).unwrap();
        writer
            .list(|writer| {
                for (value, shift, text) in &values {
                    writer.int(value >> shift)?;
                    writer.text(text)?;
                }
                Ok(())
            })
            .unwrap();
        let bytes = writer.finish().unwrap();
        let pickle = read(&bytes, &Limits::default()).unwrap();
        let items = pickle.items(pickle.root()).unwrap();
        prop_assert_eq!(items.len(), 2 * values.len());
        for (item, (value, shift, text)) in items.chunks(2).zip(&values) {
            prop_assert_eq!(pickle.node(item[0]), &Node::Int(i128::from(value >> shift)));
            prop_assert_eq!(pickle.node(item[1]), &Node::Text(text));
        }
    }
}

#[test]
fn a_simulated_gpu_says_what_fits_and_what_does_not() {
    // 3 MiB need two granules of 2 MiB; the next 1 MiB fits into the rest of the second.
    let text =
        "mmsb-allocation-trace 1\na 0 3145728\na 1 1048576\na 2 2097152\nf 0\na 3 4194304\na 4 1\n";
    let trace = Trace::parse(text.as_bytes()).unwrap();
    let mut simulation = Simulation {
        memory_bytes: 6 << 20,
        granule_bytes: 2 << 20,
        reserve_bytes: u64::MAX,
    };
    let simulated = simulation.run(&trace, &mut |_, _| ());
    let failure = simulated.first_failure.unwrap();
    assert_eq!(
        (simulated.failures, failure.event, failure.len_bytes),
        (1, 4, 4 << 20)
    );
    assert!(
        failure
            .reason
            .starts_with("out of memory: 2097152 bytes more"),
        "{}",
        failure.reason
    );
    assert_eq!(simulated.mapping.peak_mapped_bytes, 6 << 20);
    assert_eq!(simulated.at_peak.allocated.current_bytes, 6 << 20);
    // The last page goes to a hole that has memory: a slab at the start.
    assert!(simulated.pool.live().any(|page| page == (0, 1)));
    // Of the hole of 3 MiB one granule is needed by no other page. With 8 MiB it goes to the page of 4 MiB, and the last page, which
    // needs it again, does not fit; with 10 MiB everything does.
    simulation.memory_bytes = 8 << 20;
    let simulated = simulation.run(&trace, &mut |_, _| ());
    assert_eq!(
        (simulated.failures, simulated.first_failure.unwrap().event),
        (1, 5)
    );
    simulation.memory_bytes = 10 << 20;
    let simulated = simulation.run(&trace, &mut |_, _| ());
    assert_eq!((simulated.failures, simulated.first_failure), (0, None));
    // What is not kept is taken back at once.
    simulation.reserve_bytes = 0;
    let simulated = simulation.run(&trace, &mut |_, _| ());
    assert_eq!(simulated.mapping.idle_bytes, 0);
    assert!(simulated.mapping.unmaps_total > 0);
}

#[test]
fn every_backend_replays_and_counts_what_it_refuses() {
    let trace = generate(Kind::Churn, 5000, 3);
    for (name, make) in backends() {
        let roomy = replay(&trace, 2, &|| make(1 << 40)).unwrap();
        assert_eq!((roomy.backend, roomy.failures), (name, 0));
        assert_eq!(roomy.latencies.count(), trace.events().len() as u64);
        assert!(roomy.ns_per_event > 0.0);
        let tight = replay(&trace, 1, &|| make(trace.peak_bytes() / 4)).unwrap();
        let first = tight.first_failure.unwrap();
        assert!(
            tight.failures > 0 && first.reason.starts_with("out of space"),
            "{}",
            first.reason
        );
    }
}

#[test]
fn the_command_replays_a_log_of_rmm_and_tells_the_shell() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let log = "Thread,Time,Action,Pointer,Size,Stream\n\
               1,10:00:00,allocate,0x7f0000000000,1073741824,0x0\n\
               1,10:00:01,allocate,0x7f0080000000,2147483648,0x0\n\
               1,10:00:02,free,0x7f0000000000,1073741824,0x0\n";
    fs::write(path.join("rmm.csv"), log).unwrap();
    let fits = mmsb(&["gpu", "replay-bench", "rmm.csv", "--repeats", "1"], path);
    assert_eq!(fits.status.code(), Some(0), "{}", stderr(&fits));
    let text = stdout(&fits);
    for part in [
        "3 events, 2 allocations, at most 3.0 GiB",
        "pool ",
        "placement ",
        "everything fits",
        "peak mapped            3.0 GiB",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    let small = mmsb(
        &[
            "gpu",
            "replay-bench",
            "rmm.csv",
            "--memory",
            "2GiB",
            "--json",
        ],
        path,
    );
    assert_eq!(small.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_str(&stdout(&small)).unwrap();
    assert_eq!(json["simulated"]["first_failure"]["event"], 1);
    assert_eq!(json["simulated"]["fits"], false);
    assert_eq!(json["backends"][0]["name"], "pool");
    assert_eq!(json["backends"][0]["failures"], 1);
    assert_eq!(json["trace"]["format"], "rmm");

    let imported = mmsb(&["gpu", "import", "rmm.csv", "-o", "trace.txt"], path);
    assert_eq!(
        stdout(&imported),
        "wrote 3 events, 2 of them allocations, to trace.txt\n"
    );
    let trace = fs::read_to_string(path.join("trace.txt")).unwrap();
    assert_eq!(
        trace,
        "mmsb-allocation-trace 1\na 0 1073741824\na 1 2147483648\nf 0\n"
    );

    fs::write(path.join("bad.csv"), format!("{log}1,10:00:03,free\n")).unwrap();
    let bad = mmsb(&["gpu", "replay-bench", "bad.csv"], path);
    assert_eq!(bad.status.code(), Some(2));
    assert!(
        stderr(&bad).contains("bad.csv: line 5:"),
        "{}",
        stderr(&bad)
    );
    let unknown = mmsb(
        &["gpu", "replay-bench", "rmm.csv", "--backend", "cuda"],
        path,
    );
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        stderr(&unknown).contains("no backend cuda; it has pool and placement"),
        "{}",
        stderr(&unknown)
    );
    let none = mmsb(&["gpu", "replay-bench", "trace.md"], path);
    assert_eq!(none.status.code(), Some(2));
}
