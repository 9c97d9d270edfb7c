//! The small languages that people write in a manifest and the files it names: templates, jq
//! programs, JSON Schemas. Each is parsed when the manifest is checked, and run without file or
//! network access.

pub mod cut;
pub mod diff;
mod filters;
mod jq;
mod schema;
mod strict;
mod template;
pub mod tokens;

pub use jq::Jq;
pub use schema::{AnswerSchema, place_of};
pub use template::{Condition, Rendered, Template, TemplateError};
