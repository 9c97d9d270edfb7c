//! Talking to GitHub and to models, over one transport: cassette and cache -> limiter -> retry ->
//! HTTP. A probe asks beside it how servers stand.

mod asking;
mod batch;
mod bucket;
mod budget;
mod call;
mod cassette;
mod completion;
mod github;
mod graphql;
mod limiter;
mod llm;
mod probe;
mod slots;
mod transport;
mod troubles;
mod usage;
mod walk;

pub use asking::{Again, Asking, Seen};
pub use batch::{Addressee, BatchAnswer, BatchApi, Outcome, Remote, RemoteState};
pub use budget::{Limits, Reserved};
pub use call::{
    ATTEMPTS, Answer, BATCH, BatchLimits, CallError, Method, Request, Service, Stop, TOOK_MS,
    is_search,
};
pub use cassette::{
    Bodiless, Body, Cassette, LeftOut, read_bodiless, recorded_call, write_call, write_cassette,
};
pub use completion::{Api, Completion};
pub use github::{Github, Go, Place};
pub use graphql::{Query, QueryError};
pub use limiter::{Expected, Pace};
pub use llm::Chat;
pub use probe::{Probe, Reply};
pub use transport::{Taken, Tally, Transport, Wait, credentials_in, secret_in};
pub use troubles::Troubles;
pub use usage::Usage;
pub use walk::{Page, identity};
