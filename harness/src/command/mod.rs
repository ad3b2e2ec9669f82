//! What every command line here has in common: exit codes, and text on terminals and pipes. Not part of the language or of how it is
//! run.

pub mod exit;
pub mod output;
