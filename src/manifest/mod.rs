//! What the user wrote: the manifest's types, how it is read, and how its mistakes are told.
//!
//! Reading is strict and goes on after a mistake, so that one look shows them all.

mod address;
mod capabilities;
mod edit;
mod load;
mod problem;
mod project;
mod strict;
mod tidy;
mod types;

pub use address::address;
pub use capabilities::takes_schemas;
pub use edit::add_row;
pub use load::{Elsewhere, InlineTable, Manifest, ProfileChoice, StageDecl, with_fallbacks};
pub use problem::{Problem, Problems, SourceText, clean, did_you_mean, nearest};
pub use project::{INSIDE, Project};
pub use strict::{Reading, parse_on, parse_strict, to_json};
pub use tidy::tidy;
pub use types::{
    Common, EnvVar, ExpectSection, GithubSection, Limits, ModelApi, ModelSection, Names,
    PipelineSection, Price, ProfileSection, RowCount, Text, parse_age,
};
