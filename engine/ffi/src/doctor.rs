//! Whether a directory is in order, without opening it.

use std::ffi::c_char;
use std::fmt::Write;

use mmsb_engine::FileStorage;
use mmsb_engine::inspect::{Inspection, Survey, Verdict};

use crate::border::{call, fill, text};
use crate::failure::{Failure, Outcome};
use crate::status;

/// Looks at the files of the bus in `directory` and reports, as JSON with `place`, `clean`, `verdict`, `last_lsn`, `warnings`, `missing`
/// and `files`, what opening would say. Nothing is changed and no lock is taken, so it works beside a bus that is open.
/// `MMSB_DAMAGED`, with the report written, if opening would refuse. `needed` (may be null) is the length without the zero byte
/// that ends it; `capacity` has to be more than that.
///
/// # Safety
/// `directory` is a string; `report` has room for `capacity` bytes; `needed` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_doctor(
    directory: *const c_char,
    report: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let directory = unsafe { text(directory, "directory")? };
        let storage =
            FileStorage::existing(directory).map_err(|error| Failure::io("open.io", &error))?;
        let survey = Inspection::new(&storage)?.survey()?;
        let (mut json, refused) = describe(&survey)?;
        json.push('\0');
        let mut len = 0;
        // SAFETY: the caller's contract.
        let filled = unsafe { fill(json.as_bytes(), report.cast(), capacity, &raw mut len) };
        // SAFETY: the caller's contract.
        if let Some(needed) = unsafe { crate::border::optional(needed, "needed")? } {
            needed.set(len.saturating_sub(1));
        }
        filled?;
        match refused {
            None => Ok(()),
            Some((kind, why)) => Err(Failure::new(status::MMSB_DAMAGED, kind, why)),
        }
    })
}

type Refused = Option<(&'static str, String)>;

fn describe(survey: &Survey) -> Outcome<(String, Refused)> {
    let mut refused = None;
    let (verdict, last_lsn, warnings) = match &survey.verdict {
        Verdict::NoLog => ("no log", 0, Vec::new()),
        Verdict::Opens {
            last_lsn,
            torn,
            warnings,
            ..
        } => match torn {
            None => ("opens", last_lsn.0, warnings.clone()),
            Some(_) => (
                "opens without what a crash tore off",
                last_lsn.0,
                warnings.clone(),
            ),
        },
        Verdict::Refused(error) => {
            refused = Some((error.kind(), error.to_string()));
            ("refused", 0, vec![error.to_string()])
        }
        _ => ("unknown", 0, Vec::new()),
    };
    let files: Vec<String> = survey
        .files
        .iter()
        .map(|file| file.info.name.clone())
        .collect();
    let mut json = String::from("{");
    let written = write!(
        json,
        "\"place\":{},\"clean\":{},\"verdict\":{},\"last_lsn\":{last_lsn},\"warnings\":{},\"missing\":{},\"files\":{}}}",
        quoted(&survey.place),
        survey.is_clean(),
        quoted(verdict),
        list(&warnings),
        list(&survey.missing),
        list(&files),
    );
    written.map_err(|_| Failure::state("the report could not be written"))?;
    Ok((json, refused))
}

fn list(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
    format!("[{}]", items.join(","))
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control < ' ' => {
                // Writing to a string does not fail.
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
