//! The two APIs by which a model is asked.

#[derive(Clone, Copy, PartialEq)]
pub enum Api {
    Chat,
    Responses,
}
