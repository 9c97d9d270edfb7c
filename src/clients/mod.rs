//! Talking to GitHub and to models, over one transport: cassette and cache -> limiter -> retry ->
//! HTTP.

mod call;
mod cassette;
mod github;
mod graphql;
mod limiter;
mod llm;
mod transport;

pub use call::{Answer, CallError, Method, Request, Service};
pub use cassette::{Cassette, write_cassette};
pub use github::{Github, Page};
pub use graphql::{Query, QueryError};
pub use limiter::Pace;
pub use llm::{Chat, Usage};
pub use transport::{Tally, Transport, Wait, credentials_in, secret_in};
