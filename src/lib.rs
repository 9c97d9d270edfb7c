//! `make` for studies that read GitHub and ask language models.
pub mod clients;
pub mod manifest;
pub mod programs;
pub mod store;
pub mod table;
