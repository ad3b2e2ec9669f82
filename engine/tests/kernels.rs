//! The compiled kernels are those of the sources: `PROVENANCE.toml` names a hash of each.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

const REMEDY: &str = "run ci/ptx and commit what it writes";

fn folder() -> PathBuf {
    // At run time where that is known: the test may have been built elsewhere.
    std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
        .join("kernels")
}

/// The pairs of a section of the file, which has one a line.
fn section(text: &str, name: &str) -> BTreeMap<String, String> {
    text.lines()
        .skip_while(|line| *line != format!("[{name}]"))
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, value)| {
            (
                name.trim_matches('"').to_owned(),
                value.trim_matches('"').to_owned(),
            )
        })
        .collect()
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn the_module_is_compiled_from_the_sources_as_they_are() {
    let provenance = std::fs::read_to_string(folder().join("PROVENANCE.toml")).unwrap();
    let mut sources = BTreeMap::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|end| end == "cu" || end == "cuh")
        {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            sources.insert(name, hash(&std::fs::read(path).unwrap()));
        }
    }
    assert!(sources.contains_key("mmsb.cu"));
    let named = section(&provenance, "sources");
    for (name, hash) in &sources {
        assert_eq!(
            Some(hash),
            named.get(name),
            "{name} is not what mmsb.ptx was compiled from: {REMEDY}"
        );
    }
    assert_eq!(
        sources.len(),
        named.len(),
        "a source of mmsb.ptx is gone: {REMEDY}"
    );
    let ptx = mmsb_engine::device::kernels::ptx();
    let named = section(&provenance, "ptx");
    assert_eq!(
        Some(&hash(ptx.as_bytes())),
        named.get("mmsb.ptx"),
        "mmsb.ptx is not what was compiled: {REMEDY}"
    );
}

#[test]
fn the_compiler_is_the_pinned_one() {
    let script = std::fs::read_to_string(folder().join("../../ci/ptx")).unwrap();
    let provenance = std::fs::read_to_string(folder().join("PROVENANCE.toml")).unwrap();
    let compiler = section(&provenance, "compiler");
    let pinned = format!(
        "COMPILER = (\"{}\", \"{}\", \"{}\")",
        compiler["package"], compiler["version"], compiler["wheel"]
    );
    assert!(
        script.contains(&pinned),
        "ci/ptx has another compiler: {REMEDY}"
    );
    assert!(provenance.contains("    \"--fmad=false\",\n"));
}
