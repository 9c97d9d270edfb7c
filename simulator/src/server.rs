//! Connections, and the way of a request: own endpoints, faults, delay, handler, count.

use crate::ask::{self, Answer, Ask};
use crate::faults::{Faults, Strike};
use crate::later::Later;
use crate::limit::Limits;
use crate::models::Models;
use crate::stats::Stats;
use crate::world::World;
use crate::{github, load};
use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::time::Sleep;

pub struct Server {
    pub world: RwLock<World>,
    pub models: Models,
    pub latency: Duration,
    pub stats: Stats,
    pub faults: Faults,
    pub later: Later,
    pub limits: Limits,
    pub rules: github::Rules,
}

impl Server {
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(self.clone().converse(stream));
                }
                // Out of file handles: the connections that end will free some.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    async fn converse(self: Arc<Self>, stream: TcpStream) {
        // An answer that cannot be sent at once is no reason to end; nor is a client that leaves.
        let _ = stream.set_nodelay(true);
        // Requests of a connection come one after the other.
        let answered: Arc<Mutex<Option<Instant>>> = Arc::default();
        let service = service_fn(|request: Request<Incoming>| {
            let (server, answered) = (self.clone(), answered.clone());
            async move {
                let mut answered = answered.lock().await;
                if let Some(at) = *answered
                    && !request.uri().path().starts_with("/_")
                {
                    server.stats.gap(at.elapsed());
                }
                let response = server.handle(request).await;
                *answered = Some(Instant::now());
                Ok::<_, Infallible>(response)
            }
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        // The same request gets the same bytes, whenever it is asked.
        http.auto_date_header(false);
        let _ = http.serve_connection(TokioIo::new(stream), service).await;
    }

    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Response<Payload> {
        let (parts, body) = request.into_parts();
        let Ok(body) = body.collect().await else {
            return send(Answer::value(400, &json!({"message": "the request's body broke off"})));
        };
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        // A request in absolute form, as a proxy gets it, names the host that it means.
        let host = parts.uri.authority().map(|host| host.as_str()).or(header("host"));
        let ask = Ask {
            method: parts.method.as_str().to_owned(),
            path: as_on_github(parts.uri.path()),
            query: ask::pairs(parts.uri.query().unwrap_or_default()),
            base: format!("http://{}", ask::encode(host.unwrap_or("127.0.0.1"))),
            accept: header("accept").unwrap_or_default().to_owned(),
            if_none_match: header("if-none-match").map(str::to_owned),
            content_type: header("content-type").unwrap_or_default().to_owned(),
            key: header("authorization").unwrap_or_default().to_owned(),
            body: body.to_bytes(),
            incomplete: false,
            says: None,
        };
        if ask.path.starts_with("/_") {
            return send(self.own(&ask));
        }
        self.stats.begin();
        // A client that leaves is no reason to stop: what was asked is worked out and counted, as a
        // provider bills it.
        let answered = tokio::spawn(self.work(ask)).await;
        send(answered.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())))
    }

    async fn work(self: Arc<Self>, mut ask: Ask) -> Answer {
        let visit = ask.path.starts_with("/github/").then(|| self.limits.enter());
        let refusal = visit.as_ref().and_then(|it| it.refusal(github::resource(&ask.path)));
        let question = self.models.enter(&ask);
        let refusal = refusal.or_else(|| question.as_ref()?.refusal());
        let admission = self.models.admit(&ask);
        let refusal = refusal.or(admission.refusal);
        let strike = match &refusal {
            Some(_) => Strike::default(),
            None => self.faults.strike(&ask.path, &ask.body),
        };
        ask.incomplete = strike.incomplete;
        ask.says = strike.says;
        let delay = strike.delay + self.latency;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let mut answer = refusal.unwrap_or_else(|| strike.apply(|| self.answer(&ask)));
        answer.headers.extend(admission.headers);
        self.move_on(&ask.path);
        let template = match ask.path.strip_prefix("/github") {
            Some(path) => github::template(path),
            None => Models::template(&ask.path),
        };
        self.stats.count(format!("{} {template}", ask.method), answer.status);
        answer
    }

    /// Items change that were to change after this request.
    fn move_on(&self, path: &str) {
        let named = self.world.read().unwrap_or_else(PoisonError::into_inner).named(path);
        let due = self.later.due([path, &named]);
        if !due.is_empty() {
            let mut world = self.world.write().unwrap_or_else(PoisonError::into_inner);
            due.into_iter().for_each(|placed| placed.put(&mut world));
        }
    }

    fn answer(&self, ask: &Ask) -> Answer {
        if ask.path.starts_with("/v1/") {
            self.models.answer(ask, &self.faults)
        } else if ask.path.starts_with("/github/") {
            let world = self.world.read().unwrap_or_else(PoisonError::into_inner);
            github::answer(&world, &self.limits, &self.rules, ask)
        } else {
            github::not_found()
        }
    }

    /// The endpoints for tests, which are not counted: what is served (`/_repos`), what was asked
    /// (`/_stats`), what shall go wrong (`/_faults`), what becomes of batches (`/_batches`), an item added, edited or taken away, now
    /// (`/_items`) or after so many requests (`/_later`), and a repository renamed (`/_renames`).
    fn own(&self, ask: &Ask) -> Answer {
        let done = |result: Result<(), String>| match result {
            Ok(()) => Answer::value(200, &json!({"ok": true})),
            Err(message) => Answer::value(400, &json!({"message": message})),
        };
        match (ask.method.as_str(), ask.path.as_str()) {
            ("GET", "/_repos") => {
                let world = self.world.read().unwrap_or_else(PoisonError::into_inner);
                let names: Vec<&str> = world.repos.iter().map(|repo| repo.name.as_str()).collect();
                Answer::value(200, &json!(names))
            }
            ("GET", "/_stats") => {
                let since = ask.param("since_us").and_then(|time| time.parse().ok());
                let mut stats = self.stats.to_json(since);
                self.limits.stats(&mut stats);
                stats["models"] = self.models.stats();
                if ask.param("gaps").is_some() {
                    stats["gaps_us"] = self.stats.gaps();
                }
                Answer::value(200, &stats)
            }
            ("DELETE", "/_stats") => {
                self.stats.reset();
                self.limits.reset_stats();
                self.models.reset_stats();
                done(Ok(()))
            }
            ("POST", "/_faults") => done(self.faults.add(&ask.body)),
            ("DELETE", "/_faults") => {
                self.faults.clear();
                done(Ok(()))
            }
            ("POST", "/_items") => {
                let mut world = self.world.write().unwrap_or_else(PoisonError::into_inner);
                done(load::insert(&mut world, &ask.body))
            }
            ("GET", "/_batches") => Answer::value(200, &self.models.batches.tell()),
            ("POST", "/_batches") => done(self.models.batches.order(&ask.body)),
            ("POST", "/_later") => done(self.later.add(&ask.body)),
            ("POST", "/_renames") => {
                let mut world = self.world.write().unwrap_or_else(PoisonError::into_inner);
                done(load::rename(&mut world, &ask.body))
            }
            _ => Answer::value(404, &json!({"message": "no such endpoint"})),
        }
    }
}

fn send(answer: Answer) -> Response<Payload> {
    let length = answer.body.len();
    let mut bytes = Bytes::from(answer.body);
    if answer.cut {
        bytes.truncate(length / 2);
    }
    let end = if answer.cut { End::Flush } else { End::Clean };
    let piece = match answer.drip.is_zero() {
        true => bytes.len(),
        false => bytes.len().div_ceil(DRIPS),
    };
    let mut response = Response::new(Payload { bytes, piece, drip: answer.drip, pause: None, end });
    // What a fault orders may be no header at all; such a one is left out.
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
            response.headers_mut().append(name, value);
        }
    }
    if answer.status != 304 && answer.status != 204 {
        response.headers_mut().insert("content-length", length.into());
    }
    response
}

/// In how many pieces a dripping body is sent.
const DRIPS: usize = 16;

/// A body, whole or broken off.
struct Payload {
    bytes: Bytes,
    /// How much of it is sent at once.
    piece: usize,
    /// How long to wait before each piece.
    drip: Duration,
    pause: Option<Pin<Box<Sleep>>>,
    end: End,
}

enum End {
    Clean,
    /// Let what was written reach the client, then fail.
    Flush,
    Fail,
}

impl Body for Payload {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if !self.bytes.is_empty() {
            if !self.drip.is_zero() {
                let drip = self.drip;
                let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(drip)));
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            let piece = self.piece.min(self.bytes.len());
            return Poll::Ready(Some(Ok(Frame::data(self.bytes.split_to(piece)))));
        }
        match self.end {
            End::Clean => Poll::Ready(None),
            End::Flush => {
                self.end = End::Fail;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            End::Fail => Poll::Ready(Some(Err(std::io::Error::other("cut by a fault")))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty() && matches!(self.end, End::Clean)
    }

    fn size_hint(&self) -> SizeHint {
        match self.end {
            End::Clean => SizeHint::with_exact(self.bytes.len() as u64),
            _ => SizeHint::default(),
        }
    }
}

/// An Enterprise server has GitHub's REST below `/api/v3` and its GraphQL at `/api/graphql`.
fn as_on_github(path: &str) -> String {
    match (path, path.strip_prefix("/api/v3/")) {
        (_, Some(rest)) => format!("/github/{rest}"),
        ("/api/graphql", None) => "/github/graphql".to_owned(),
        _ => path.to_owned(),
    }
}
