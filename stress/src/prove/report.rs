//! The figures of a proof.

use std::fmt::Write as _;

use super::Proof;

/// A table of what became of each bug, as Markdown.
#[must_use]
pub fn markdown(proofs: &[Proof]) -> String {
    let killed = proofs.iter().filter(|proof| proof.is_good()).count();
    let mut out = format!("{killed} of {} came as they must.\n\n", proofs.len());
    out.push_str(
        "| planted bug | found, times | scenarios | seconds | campaign | steps found → minimal | known minimum | what showed it |\n\
         | --- | --- | ---: | ---: | --- | ---: | ---: | --- |\n",
    );
    for proof in proofs {
        let _ = match &proof.finding {
            Some(finding) => writeln!(
                out,
                "| `{}`: {} | yes, {} | {} | {:.1} | {} | {} → {} | {} | {} |",
                proof.name,
                proof.about,
                proof.found_in,
                proof.scenarios,
                proof.elapsed_s,
                finding.job.campaign,
                finding.steps_before,
                finding.steps_after,
                proof
                    .known_minimum
                    .map_or(String::new(), |steps| steps.to_string()),
                finding.signature.to_string().replace('|', "\\|"),
            ),
            None => writeln!(
                out,
                "| `{}`: {} | {} | {} | {:.1} | | | | {} |",
                proof.name,
                proof.about,
                if proof.leak.is_some() { "yes" } else { "no" },
                proof.scenarios,
                proof.elapsed_s,
                proof.leak.as_deref().unwrap_or_default()
            ),
        };
    }
    out
}
