//! Talking to GitHub and to models, over one transport: cassette and cache -> limiter -> retry ->
//! HTTP.

mod asking;
mod budget;
mod call;
mod cassette;
mod github;
mod graphql;
mod limiter;
mod llm;
mod transport;
mod usage;

pub use asking::{Again, Asking, Seen};
pub use budget::Limits;
pub use call::{Answer, CallError, Method, Request, Service, Stop};
pub use cassette::{Cassette, write_cassette};
pub use github::{Github, Page, Walk};
pub use graphql::{Query, QueryError};
pub use limiter::Pace;
pub use llm::Chat;
pub use transport::{Tally, Transport, Wait, credentials_in, secret_in};
pub use usage::Usage;
