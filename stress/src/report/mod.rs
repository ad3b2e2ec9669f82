//! What is told of a run: on the terminal, as a page, as Markdown, as JUnit and as JSON.

mod html;
mod junit;
mod markdown;
mod plot;
mod summary;
mod write;

pub use html::html;
pub use junit::junit;
pub use markdown::markdown;
pub use summary::{Summary, rate, text};
pub use write::write;
