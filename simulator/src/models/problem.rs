//! What is wrong with a request, told as OpenAI tells it.

use crate::ask::Answer;
use crate::dice::hash;
use serde_json::json;

#[derive(Debug)]
pub struct Problem {
    status: u16,
    message: String,
    param: Option<String>,
    code: Option<&'static str>,
}

impl Problem {
    pub fn new(message: impl Into<String>) -> Problem {
        Problem { status: 400, message: message.into(), param: None, code: None }
    }

    pub fn missing(param: &str) -> Problem {
        let problem = Problem::new(format!("Missing required parameter: '{param}'."));
        problem.at(param).code("missing_required_parameter")
    }

    pub fn status(self, status: u16) -> Problem {
        Problem { status, ..self }
    }

    /// The setting that it is about.
    pub fn at(self, param: &str) -> Problem {
        Problem { param: Some(param.to_owned()), ..self }
    }

    pub fn code(self, code: &'static str) -> Problem {
        Problem { code: Some(code), ..self }
    }

    pub fn answer(self) -> Answer {
        let Problem { status, message, param, code } = self;
        let kind = "invalid_request_error";
        let error = json!({"message": message, "type": kind, "param": param, "code": code});
        Answer::value(status, &json!({"error": error}))
            .with("x-request-id", format!("req_{:032x}", hash(message.as_bytes())))
    }
}
