//! The two APIs by which a model is asked.

#[derive(Clone, Copy, PartialEq)]
pub enum Api {
    Chat,
    Responses,
}

impl Api {
    pub fn at(path: &str) -> Option<Api> {
        match path {
            "/v1/chat/completions" => Some(Api::Chat),
            "/v1/responses" => Some(Api::Responses),
            _ => None,
        }
    }
}
