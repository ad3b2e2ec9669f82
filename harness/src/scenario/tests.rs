use proptest::prelude::*;

use super::ast::{AxisValue, Scenario, Step};
use super::data::{Data, scatter_runs};
use super::num::{EvalError, Num, Scope};
use super::parse::parse_shape;
use super::{arbitrary, matrix, parse_str, parse_trace_line, print, print_trace_line};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn printing_and_parsing_give_the_same_scenario(scenario in arbitrary::scenario()) {
        let text = print(&scenario);
        let again = parse_shape(&text);
        prop_assert_eq!(again.as_ref(), Ok(&scenario), "{}", text);
        // Printing is a function of content alone.
        prop_assert_eq!(print(&scenario), again.map(|again| print(&again)).unwrap_or_default());
    }

    #[test]
    fn trace_lines_are_read_back(step in arbitrary::step()) {
        let line = print_trace_line(&step);
        prop_assert!(!line.contains('\n'));
        prop_assert_eq!(parse_trace_line("trace", 1, &line), Ok(step), "{}", line);
    }

    #[test]
    fn the_check_and_the_matrix_take_any_scenario(scenario in arbitrary::scenario()) {
        let faults = super::check::check(&scenario);
        prop_assert_eq!(super::check::check(&scenario), faults.clone());
        if let Ok(cells) = matrix::expand(&scenario) {
            let mut names: Vec<_> = cells.iter().map(|cell| &cell.name).collect();
            names.sort();
            names.dedup();
            prop_assert_eq!(names.len(), cells.len());
            for cell in cells.iter().take(3) {
                prop_assert!(cell.apply(&scenario).matrix.is_none());
            }
        }
    }

    #[test]
    fn any_text_is_refused_or_read(text in "\\PC{0,200}") {
        let _ = parse_str("any", &text);
        let _ = parse_trace_line("any", 1, &text);
    }

    #[test]
    fn damaged_scenarios_never_panic(scenario in arbitrary::scenario(), at in any::<prop::sample::Index>(), c in any::<char>()) {
        let mut text: Vec<char> = print(&scenario).chars().collect();
        let at = at.index(text.len());
        text[at] = c;
        let text: String = text.into_iter().collect();
        for diagnostic in parse_str("damaged", &text).err().unwrap_or_default() {
            prop_assert!(!diagnostic.to_string().is_empty());
        }
    }
}

fn num(text: &str) -> Num {
    Num::from_text(text).unwrap()
}

#[test]
fn expressions_have_the_usual_precedence() {
    let mut scope = Scope::new();
    scope.set("i", 10);
    for (text, value) in [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("100 - 10 - 1", 89),
        ("100 / 10 / 5", 2),
        ("7 % 4 + 1", 4),
        ("i * 64 + 8", 648),
        ("min(i, 3) + max(4KiB, 2 MiB)", 3 + (2 << 20)),
        ("16B", 16),
        ("1GiB - 1", (1 << 30) - 1),
    ] {
        assert_eq!(num(text).eval(&scope), Ok(value), "{text}");
    }
}

#[test]
fn arithmetic_is_checked() {
    let scope = Scope::new();
    assert!(matches!(
        num("1 - 2").eval(&scope),
        Err(EvalError::Overflow { .. })
    ));
    assert!(matches!(
        num("18446744073709551615 + 1").eval(&scope),
        Err(EvalError::Overflow { .. })
    ));
    assert!(matches!(
        num("1 / 0").eval(&scope),
        Err(EvalError::DivisionByZero { .. })
    ));
    assert!(matches!(
        num("1 % (2 - 2)").eval(&scope),
        Err(EvalError::DivisionByZero { .. })
    ));
    assert!(matches!(
        num("99999999999999GiB").eval(&scope),
        Err(EvalError::SizeOverflow { .. })
    ));
    let mut scope = Scope::new();
    scope.set("count", 1);
    let error = num("coutn").eval(&scope).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown variable `coutn`, did you mean `count`?"
    );
}

#[test]
fn deep_or_long_expressions_are_refused() {
    assert!(Num::from_text(&"(".repeat(100_000)).is_err());
    assert!(Num::from_text(&format!("1{}", " + 1".repeat(100_000))).is_err());
    assert!(Num::from_text(&format!("1{}", " + 1".repeat(100))).is_ok());
}

fn scenario(body: &str) -> Scenario {
    let text = format!("version: 1\npages: {{a: 64}}\n{body}");
    parse_str("test", &text).unwrap_or_else(|faults| panic!("{}", faults[0]))
}

const CHECK: &str = "steps:\n  - expect: {page: a, zero: a}\n";

#[test]
fn a_scenario_without_a_matrix_has_one_cell_without_a_name() {
    let scenario = scenario("steps: [expect: {zero: a}]\n");
    let cells = matrix::expand(&scenario).unwrap();
    assert_eq!(cells.len(), 1);
    assert_eq!(cells[0].name, "");
    assert_eq!(cells[0].apply(&scenario), scenario);
    // Not a check at all: `zero` and `page` exclude each other.
    assert!(parse_str("test", &format!("version: 1\npages: {{a: 64}}\n{CHECK}")).is_err());
}

#[test]
fn cells_come_in_the_order_of_the_file() {
    let scenario = scenario(
        "matrix:\n  axes: {threads: [1, 8], storage: [sim, fs], page_size: [64, 4KiB]}\n  \
         exclude: [{threads: 8, storage: fs}, {page_size: 4096, storage: fs}]\n  \
         include: [{threads: 4, storage: sim, page_size: 1B}]\n\
         steps: [expect: {zero: {page: a, len: \"page_size % 2\"}}]\n",
    );
    let cells = matrix::expand(&scenario).unwrap();
    let names: Vec<&str> = cells.iter().map(|cell| cell.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "threads=1,storage=sim,page_size=64",
            "threads=1,storage=sim,page_size=4KiB",
            "threads=1,storage=fs,page_size=64",
            "threads=8,storage=sim,page_size=64",
            "threads=8,storage=sim,page_size=4KiB",
            "threads=4,storage=sim,page_size=1B",
        ]
    );
    let applied = cells[3].apply(&scenario);
    assert_eq!(applied.options.threads, Some(num("8")));
    assert_eq!(applied.lets.get("page_size"), Some(&num("64")));
    assert_eq!(applied.lets.get("storage"), None);
    assert_eq!(
        cells[3].values.get("storage"),
        Some(&AxisValue::Word("sim".into()))
    );
    assert!(
        super::check::check(&applied).is_empty(),
        "{:?}",
        super::check::check(&applied)
    );
}

#[test]
fn steps_know_where_they_stand() {
    let scenario = scenario(
        "steps:\n  - mark: m\n  - repeat:\n      times: 2\n      steps:\n        - expect: {zero: a}\n",
    );
    assert_eq!(
        (scenario.steps[0].span.line, scenario.steps[0].span.column),
        (4, 5)
    );
    let Step::Repeat(repeat) = &scenario.steps[1].value else {
        panic!()
    };
    assert_eq!(
        (repeat.steps[0].span.line, repeat.steps[0].span.column),
        (8, 11)
    );
}

#[test]
fn random_bytes_are_those_of_b3sum() {
    // printf 7 | b3sum --length 16
    let data = Data::Random(super::data::Random {
        seed: num("7"),
        len: Some(num("16")),
    });
    let bytes = data
        .to_bytes(&Scope::new(), None)
        .unwrap()
        .unwrap()
        .into_owned();
    assert_eq!(bytes, blake3::hash(b"7").as_bytes()[..16]);
}

#[test]
fn scattered_runs_lie_within_the_page() {
    let runs = scatter_runs(1, 1000, 16, 64).unwrap();
    assert!(
        runs.iter()
            .all(|(at, bytes)| at + 16 <= 64 && bytes.len() == 16)
    );
    assert!((0..=48).all(|place| runs.iter().any(|(at, _)| *at == place)));
    assert!(scatter_runs(1, 1, 65, 64).is_err());
    assert!(scatter_runs(1, u64::MAX, 1, 64).is_err());
}

#[test]
fn names_are_templates() {
    let mut scope = Scope::new();
    scope.set("i", 4);
    let resolve = |text: &str| {
        super::value::Name::new(text)
            .resolve(&scope)
            .map(|name| name.into_owned())
    };
    assert_eq!(resolve("p{i * 2}-{i}"), Ok("p8-4".to_owned()));
    assert_eq!(resolve("plain"), Ok("plain".to_owned()));
    assert!(resolve("p{j}").is_err());
}

#[test]
fn every_feature_in_one_scenario_is_accepted() {
    let text = include_str!("testdata/everything.yaml");
    let scenario = parse_str("everything.yaml", text).unwrap_or_else(|faults| {
        panic!(
            "{}",
            faults.iter().map(|f| format!("{f}\n")).collect::<String>()
        )
    });
    assert_eq!(parse_str("printed", &print(&scenario)).unwrap(), scenario);
    let mut verbs: Vec<&str> = Vec::new();
    fn collect(steps: &[super::value::Located<Step>], verbs: &mut Vec<&str>) {
        for step in steps {
            verbs.push(step.verb());
            match &step.value {
                Step::Transaction(s) => collect(&s.steps, verbs),
                Step::Repeat(s) => collect(&s.steps, verbs),
                Step::Fails(s) => collect(&s.steps, verbs),
                Step::Storm(s) => collect(&s.steps, verbs),
                Step::Concurrent(lists) => lists.iter().for_each(|list| collect(list, verbs)),
                _ => {}
            }
        }
    }
    collect(&scenario.steps, &mut verbs);
    for verb in Step::VERBS {
        assert!(
            verbs.contains(verb),
            "testdata/everything.yaml does not use `{verb}`"
        );
    }
}

#[test]
fn what_is_printed_reads_like_a_hand_written_file() {
    let text = "\
# yaml-language-server: $schema=../schema.json
version: 1
about: Two pages.
options: {storage: sim, threads: 2}
pages:
  a: 4KiB
  b: {derive: {copy: a}}
steps:
  - write: {page: a, at: 16, hex: deadbeef}
  - commit
  - repeat:
      times: 3
      as: i
      steps:
        - transaction:
            steps:
              - write: {page: a, at: \"i * 4\", u32: [1, 2]}
  - delta:
      page: a
      runs:
        - {at: 1, hex: \"00\"}
        - {at: 9, text: x}
  - commit: sync
  - expect: {same: [a, b]}
";
    let text = text.replace("about: Two pages.", "about: \"Two pages.\"");
    assert_eq!(
        print(&parse_str("test", &text).unwrap_or_else(|f| panic!("{}", f[0]))),
        text
    );
}

#[test]
fn trace_lines_are_refused_at_their_place() {
    let fault =
        parse_trace_line("t.jsonl", 17, r#"{"write": {"page": "a", "hx": "00"}}"#).unwrap_err();
    assert_eq!((fault.line, fault.code.as_str()), (17, "MMSB-E011"));
    assert_eq!(fault.suggestion.as_deref(), Some("hex"));
    let fault = parse_trace_line("t.jsonl", 3, r#""comit""#).unwrap_err();
    assert_eq!(
        (fault.line, fault.suggestion.as_deref()),
        (3, Some("commit"))
    );
    let line = r#"{"diff": {"page": "a", "too": {"hex": ""}}}"#;
    let fault = parse_trace_line("t.jsonl", 3, line).unwrap_err();
    assert_eq!(
        (fault.code.as_str(), fault.suggestion.as_deref()),
        ("MMSB-E011", Some("to"))
    );
    assert!(parse_trace_line("t.jsonl", 1, "").is_err());
    assert!(parse_trace_line("t.jsonl", 1, "\"commit\" \"commit\"").is_err());
}

#[test]
fn large_or_deep_files_are_refused_quickly() {
    let start = std::time::Instant::now();
    let code = |text: &str| parse_str("x", text).unwrap_err()[0].code.as_str();
    let head = "version: 1\nsteps:\n";
    assert_eq!(
        code(&format!("{head}{}", "  - commit\n".repeat(200_000))),
        "MMSB-E005"
    );
    assert_eq!(
        code(&format!("{head}  - {}", "[".repeat(400_000))),
        "MMSB-E005"
    );
    assert_eq!(
        code(&format!("{head}  - {}", "{a: ".repeat(200_000))),
        "MMSB-E005"
    );
    let nested = "repeat: {times: 1, steps: [".repeat(30);
    assert_eq!(
        code(&format!("{head}  - {nested}{}", "]}".repeat(30))),
        "MMSB-E005"
    );
    assert!(start.elapsed().as_secs() < 5, "took {:?}", start.elapsed());
}

#[test]
fn diagnostics_look_like_those_of_a_compiler() {
    let text = "version: 1\npages: {state: 64}\nsteps:\n  - write: {page: statee, hex: \"00\"}\n  - commit\n  - expect: {zero: state}\n";
    let faults = parse_str("demo.yaml", text).unwrap_err();
    assert_eq!(
        faults[0].to_string(),
        "\
demo.yaml:4:19: error[MMSB-E030]: unknown page `statee`
  |
4 |   - write: {page: statee, hex: \"00\"}
  |                   ^^^^^^
  = expected: one of state
  = help: did you mean `state`?"
    );
}

/// The root of the workspace, taken at run time where there is one.
fn root() -> std::path::PathBuf {
    let harness = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(
        || env!("CARGO_MANIFEST_DIR").into(),
        std::path::PathBuf::from,
    );
    harness.join("..")
}

/// Compares a checked-in file with what it must hold, or writes it if `MMSB_BLESS=1`.
fn up_to_date(path: &str, text: &str) {
    let path = root().join(path);
    if std::env::var_os("MMSB_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == text,
        "{} is out of date: run the tests with MMSB_BLESS=1",
        path.display()
    );
}

#[test]
fn the_checked_in_schema_is_up_to_date() {
    up_to_date("scenarios/schema.json", &super::schema_text());
}

#[test]
fn the_checked_in_reference_is_up_to_date() {
    let path = "docs/SCENARIOS.md";
    let document = std::fs::read_to_string(root().join(path)).unwrap();
    let updated = super::docs::update(&document).expect("the markers are there");
    up_to_date(path, &updated);
}

#[test]
fn every_scenario_in_the_document_is_accepted() {
    let document = std::fs::read_to_string(root().join("docs/SCENARIOS.md")).unwrap();
    let mut count = 0;
    for block in document.split("```yaml\n").skip(1) {
        let text = block.split("```").next().unwrap();
        if text.contains("version:") {
            count += 1;
            if let Err(faults) = parse_str("docs/SCENARIOS.md", text) {
                panic!("{}\nin\n{text}", faults[0]);
            }
        }
    }
    assert!(count >= 3, "only {count} scenarios in the document");
}

/// Every definition that the schema refers to is there, and everything has a description.
#[test]
fn the_schema_is_complete() {
    fn walk(value: &serde_json::Value, defs: &serde_json::Value) {
        match value {
            serde_json::Value::Object(object) => {
                if let Some(reference) = object.get("$ref").and_then(|value| value.as_str()) {
                    let name = reference.strip_prefix("#/$defs/").expect(reference);
                    assert!(defs.get(name).is_some(), "{name} is not defined");
                }
                object.values().for_each(|value| walk(value, defs));
            }
            serde_json::Value::Array(items) => items.iter().for_each(|value| walk(value, defs)),
            _ => {}
        }
    }
    let schema = super::schema();
    walk(&schema, &schema["$defs"]);
    let verbs = schema["$defs"]["Step"]["anyOf"].to_string();
    for verb in Step::VERBS {
        assert!(verbs.contains(&format!("\"{verb}\"")), "{verb}");
    }
}
