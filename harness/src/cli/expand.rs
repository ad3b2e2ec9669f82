//! `mmsb expand`: the cells of a matrix.

use mmsb_harness::scenario::{matrix, parse_file, print};

use super::args::ExpandArgs;
use super::exit::Exit;
use super::output::{CommandError, Output, complain};

/// Lists the cells of a scenario, or prints it as it runs in one of them.
pub(super) fn expand(args: &ExpandArgs, out: &mut Output) -> Result<Exit, CommandError> {
    let scenario = match parse_file(&args.file) {
        Ok(scenario) => scenario,
        Err(diagnostics) => {
            for diagnostic in &diagnostics {
                complain(diagnostic);
            }
            return Ok(Exit::Usage);
        }
    };
    let cells =
        matrix::expand(&scenario).map_err(|diagnostic| CommandError(diagnostic.to_string()))?;
    if let Some(wanted) = &args.cell {
        let wanted = wanted.trim_start_matches('[').trim_end_matches(']');
        let Some(cell) = cells.iter().find(|cell| cell.name == wanted) else {
            let file = args.file.display();
            let message = format!("there is no cell `{wanted}`; `mmsb expand {file}` lists them");
            return Err(CommandError(message));
        };
        out.text(print(&cell.apply(&scenario)));
        return Ok(Exit::Passed);
    }
    for cell in cells {
        out.line(if cell.name.is_empty() {
            "(no matrix: one test)"
        } else {
            &cell.name
        });
    }
    Ok(Exit::Passed)
}
