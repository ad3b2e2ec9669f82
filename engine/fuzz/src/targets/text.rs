//! What people and importers write: scenarios and traces.

use mmsb_harness::scenario::{matrix, parse_bytes, parse_trace_line, print};

const MAX_INPUT_BYTES: usize = 16 * 1024;

/// A scenario. What is refused is refused with a message; what is accepted is printed and read back as the same.
pub fn scenario_yaml(input: &[u8]) {
    if input.len() > MAX_INPUT_BYTES {
        return;
    }
    let scenario = match parse_bytes("input", input) {
        Ok(scenario) => scenario,
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty(), "refused without a reason");
            for diagnostic in diagnostics {
                assert!(!diagnostic.to_string().is_empty());
            }
            return;
        }
    };
    let printed = print(&scenario);
    match parse_bytes("printed", printed.as_bytes()) {
        Ok(again) => assert!(
            again == scenario,
            "printed and read back as another:\n{printed}"
        ),
        Err(diagnostics) => {
            let why: String = diagnostics.iter().map(ToString::to_string).collect();
            panic!("what was printed is refused: {why}\n{printed}");
        }
    }
    if let Ok(cells) = matrix::expand(&scenario) {
        for cell in cells.iter().take(8) {
            let _ = cell.apply(&scenario);
        }
    }
}

/// A line of a trace. What is accepted is written and read back as the same.
pub fn trace_line(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if input.len() > MAX_INPUT_BYTES || text.contains('\n') {
        return;
    }
    match parse_trace_line("input", 1, text) {
        Ok(step) => {
            let written = serde_json::to_string(&step).expect("a step can be written");
            let again = parse_trace_line("written", 1, &written);
            assert_eq!(again.ok().as_ref(), Some(&step), "{written}");
        }
        Err(diagnostic) => assert!(!diagnostic.to_string().is_empty()),
    }
}
