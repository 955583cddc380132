//! What happens to a link: as a list, and as server-sent events.
//!
//! A stream asks for what came after the last event that it has sent, when there is news and its client has taken that one. So nothing is kept for a client, and
//! one that is slow or gone costs nothing. Its connection counts as one that waits: it gives way when there are too many, and its client comes back with `Last-Event-ID`.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::error::ApiError;
use super::reply::Either;
use super::server::{Accept, Api, LastEventId, Segments};
use super::wire::Event;

/// How often a stream says something in any case: proxies give up connections without traffic after half a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long a stream rests after it has sent something. Bad records may come a hundred thousand a second, and nobody reads that many.
const REST: Duration = Duration::from_millis(100);

/// The media type of a stream.
pub(super) const STREAM: &str = "text/event-stream";

pub(super) async fn list(
    State(api): State<Api>,
    Segments(link): Segments<String>,
    Accept(accept): Accept,
    LastEventId(last): LastEventId,
) -> Result<Either<Json<Vec<Event>>, Stream>, ApiError> {
    let wants_stream =
        accept.split(',').any(|range| range.split(';').next().is_some_and(|media| media.trim() == STREAM));
    if wants_stream {
        return Stream::begin(api, link, last).await.map(Either::That);
    }
    api.ask(move |control| control.events(&link, None)).await.map(|happened| Either::This(Json(happened.events)))
}

/// Events as they happen.
pub(super) struct Stream(mpsc::Receiver<Bytes>);

impl Stream {
    /// What happened after an event, then what happens.
    async fn begin(api: Api, link: String, last: Option<String>) -> Result<Self, ApiError> {
        let mut feed = Feed { api, link, last };
        let (first, news) = feed.ask().await?;
        // One may wait to be taken: the client says how fast it goes.
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let (mut ending, mut changing) = feed.api.endings();
            tokio::select! {
                () = feed.run(&sender, first, news) => {}
                () = sender.closed() => {}
                _ = ending.wait_for(|ending| *ending) => {}
                _ = changing.changed() => {}
            }
        });
        Ok(Self(receiver))
    }
}

impl IntoResponse for Stream {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, STREAM), (header::CACHE_CONTROL, "no-store")], Body::new(self)).into_response()
    }
}

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Where a stream is.
struct Feed {
    api: Api,
    link: String,
    last: Option<String>,
}

impl Feed {
    /// What came after the last event, as it is sent, and what tells of the next.
    async fn ask(&mut self) -> Result<(Bytes, watch::Receiver<u64>), ApiError> {
        let (link, last) = (self.link.clone(), self.last.clone());
        let happened = self.api.ask(move |control| control.events(&link, last.as_deref())).await?;
        if let Some(event) = happened.events.last() {
            self.last = Some(event.id.clone());
        }
        Ok((written(&happened.events), happened.news))
    }

    /// Send until the client or the link is gone.
    async fn run(mut self, client: &mpsc::Sender<Bytes>, mut events: Bytes, mut news: watch::Receiver<u64>) {
        loop {
            if !events.is_empty() {
                if client.send(events).await.is_err() {
                    return;
                }
                sleep(REST).await;
            }
            // A link that is defined anew is another one: then its news end, and it is asked for again.
            while timeout(KEEP_ALIVE, news.changed()).await.is_err() {
                if client.send(Bytes::from_static(b":\n\n")).await.is_err() {
                    return;
                }
            }
            let Ok(asked) = self.ask().await else { return };
            (events, news) = asked;
        }
    }
}

/// Events as a stream has them.
fn written(events: &[Event]) -> Bytes {
    let mut text = String::new();
    for event in events {
        // An event without data would be none for its reader: it is left out, and said to be.
        match serde_json::to_string(event) {
            Ok(data) => drop(write!(text, "id: {}\ndata: {data}\n\n", event.id)),
            Err(error) => tracing::error!(event = event.id, "an event cannot be sent: {error}"),
        }
    }
    text.into()
}
