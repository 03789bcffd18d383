//! `/api/sessions/{id}/events` and `…/frames`: a connection into a session where no WebSocket gets
//! through. Frames come as server-sent events and go as POST.
//!
//! Invariants: both halves are of one connection, which its client named and only its device may
//! use; a stream that is cut is taken up again without loss for as long as what it may have missed
//! is kept, and ends with "join again" after that.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event as SseEvent, Sse};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use crucible_live::frames::Frame;
use crucible_live::limits::{FRAME_BYTES_MAX, UPDATE_BYTES_MAX};
use futures_util::Stream;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, watch};
use tokio::time::{Interval, MissedTickBehavior};

use super::connection::{Connection, Ended, RESTART, ended, over, until};
use crate::body::{self, Params};
use crate::caller::Caller;
use crate::error::{ApiError, Code};
use crate::live::Out;
use crate::state::Server;

/// A client's name of its connection, in bytes.
const NAME_BYTES: std::ops::RangeInclusive<usize> = 16..=64;
/// How long a connection outlives its stream.
const ABSENCE: Duration = Duration::from_secs(20);
/// How long the stream before may take to end.
const TAKE_OVER_MAX: Duration = Duration::from_secs(5);
/// Bytes of frames kept for a stream that is taken up again.
const KEPT_BYTES_MAX: usize = 512 << 10;
/// Bytes of frames in one POST: an update in fragments.
const POST_BYTES_MAX: usize = UPDATE_BYTES_MAX + FRAME_BYTES_MAX;
/// What was missed is kept no more.
const MISSED: Ended = (4408, "what was missed is gone; join again");

/// Connections of this kind, by session and the name their client gave.
#[derive(Default)]
pub struct Streams(Mutex<HashMap<(String, String), Arc<Half>>>);

/// What both requests of a connection share.
pub struct Half {
    connection: tokio::sync::Mutex<Connection>,
    feed: Arc<tokio::sync::Mutex<Feed>>,
    /// Streams it has had: the last one takes over, and only its end is the connection's.
    streams: watch::Sender<u64>,
}

/// What goes to the client.
struct Feed {
    out: UnboundedReceiver<Out>,
    /// The number of the next frame.
    next: u64,
    /// Frames that may not have arrived, with the number of the first.
    kept: VecDeque<Frame>,
    kept_bytes: usize,
}

impl Streams {
    fn held(&self) -> MutexGuard<'_, HashMap<(String, String), Arc<Half>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feed {
    fn push(&mut self, frame: Frame) {
        self.next += 1;
        self.kept_bytes += frame.len();
        self.kept.push_back(frame);
        while self.kept_bytes > KEPT_BYTES_MAX
            && let Some(old) = self.kept.pop_front()
        {
            self.kept_bytes -= old.len();
        }
    }

    /// The frames after the one of this number; `None` where they are kept no more.
    fn after(&self, last: u64) -> Option<Vec<(u64, Frame)>> {
        let first = self.next - self.kept.len() as u64;
        let skip = (last + 1).checked_sub(first)?;
        if last >= self.next {
            return None;
        }
        Some((first..).zip(self.kept.iter().cloned()).skip(skip as usize).collect())
    }
}

#[derive(Deserialize)]
pub struct Named {
    client: String,
}

impl Named {
    fn checked(self) -> Result<String, ApiError> {
        if NAME_BYTES.contains(&self.client.len()) && self.client.is_ascii() {
            return Ok(self.client);
        }
        let message = "client is 16 to 64 characters of your own, drawn for each connection";
        Err(ApiError::new(Code::BadRequest, message))
    }
}

/// One stream of a connection.
struct Stretch {
    server: Arc<Server>,
    half: Arc<Half>,
    /// Which of the connection's streams this is, and which is the last.
    stream: u64,
    streams: watch::Receiver<u64>,
    feed: OwnedMutexGuard<Feed>,
    /// To be sent again.
    again: VecDeque<(u64, Frame)>,
    end: Option<Ended>,
    over: bool,
    closing: watch::Receiver<bool>,
    rechecks: watch::Receiver<u64>,
    heartbeat: Interval,
    _absence: Absence,
    _permit: OwnedSemaphorePermit,
}

/// Lets a connection end some time after its stream, unless another one has taken over.
struct Absence {
    server: Arc<Server>,
    key: (String, String),
    half: Arc<Half>,
    stream: u64,
}

pub async fn events(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(id): Path<String>,
    Params(named): Params<Named>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<SseEvent, Infallible>>>, ApiError> {
    let permit = Arc::clone(&server.streams).try_acquire_owned().map_err(|_| {
        ApiError::new(Code::Unavailable, "too many streams of events are open")
            .hint("try again in a moment")
    })?;
    let name = named.checked()?;
    let last = headers.get("last-event-id").and_then(|last| last.to_str().ok());
    let last: Option<u64> = last.and_then(|last| last.parse().ok());
    let key = (id, name);
    let known = find(&server, &key, &caller).await?;
    let (half, mut end) = match (known, last) {
        (Some(half), _) => (half, None),
        // What it was told before is forgotten: it has to join anew.
        (None, Some(_)) => return Err(gone()),
        (None, None) => {
            let connection = Connection::new(Arc::clone(&server), caller, &key.0).await?;
            let out = connection.join().await?;
            let feed = Feed { out, next: 1, kept: VecDeque::new(), kept_bytes: 0 };
            let half = Arc::new(Half {
                connection: tokio::sync::Mutex::new(connection),
                feed: Arc::new(tokio::sync::Mutex::new(feed)),
                streams: watch::Sender::new(0),
            });
            server.live().streams.held().insert(key.clone(), Arc::clone(&half));
            (half, None)
        }
    };
    let mut stream = 0;
    half.streams.send_modify(|streams| {
        *streams += 1;
        stream = *streams;
    });
    let absence = Absence { server: Arc::clone(&server), key, half: Arc::clone(&half), stream };
    let feed = Arc::clone(&half.feed).lock_owned();
    let feed = tokio::time::timeout(TAKE_OVER_MAX, feed).await.map_err(|_| {
        ApiError::new(Code::Unavailable, "the last stream of this connection has not ended")
            .hint("join anew, under another client name")
    })?;
    let again = match feed.after(last.unwrap_or(0)) {
        Some(again) => again.into(),
        None => {
            end = Some(MISSED);
            VecDeque::new()
        }
    };
    let mut heartbeat = tokio::time::interval(Duration::from_millis(server.limits().heartbeat_ms));
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stretch = Stretch {
        streams: half.streams.subscribe(),
        stream,
        closing: server.closing(),
        rechecks: server.live().rechecks(),
        server,
        half,
        feed,
        again,
        end,
        over: false,
        heartbeat,
        _absence: absence,
        _permit: permit,
    };
    Ok(Sse::new(futures_util::stream::unfold(stretch, |mut stretch| async {
        let event = stretch.next().await?;
        Some((Ok(event), stretch))
    })))
}

fn gone() -> ApiError {
    ApiError::not_found("connection").hint("it was silent for too long; join again")
}

/// The connection of this name, for its own device.
async fn find(
    server: &Arc<Server>,
    key: &(String, String),
    caller: &Caller,
) -> Result<Option<Arc<Half>>, ApiError> {
    let half = server.live().streams.held().get(key).cloned();
    let Some(half) = half else { return Ok(None) };
    let same = half.connection.lock().await.caller.device() == caller.device();
    if same { Ok(Some(half)) } else { Err(gone()) }
}

impl Stretch {
    async fn next(&mut self) -> Option<SseEvent> {
        if self.over {
            return None;
        }
        if let Some((number, frame)) = self.again.pop_front() {
            return Some(shown(number, &frame));
        }
        loop {
            let event = match self.end {
                Some((code, reason)) => {
                    self.over = true;
                    self.server.live().streams.held().retain(|_, h| !Arc::ptr_eq(h, &self.half));
                    let said = json!({ "code": code, "reason": reason });
                    return Some(SseEvent::default().event("close").data(said.to_string()));
                }
                None => self.wait().await,
            };
            if event.is_some() || self.over {
                return event;
            }
        }
    }

    async fn wait(&mut self) -> Option<SseEvent> {
        tokio::select! {
            () = until(&mut self.closing, |closing| *closing) => self.end = Some(RESTART),
            () = until(&mut self.streams, |last| *last != self.stream) => self.over = true,
            next = self.feed.out.recv() => match next {
                Some(Out::Frame(frame)) => {
                    let told = self.half.connection.lock().await.sent(1, frame.len()).await;
                    self.end = told.err();
                    let number = self.feed.next;
                    self.feed.push(frame.clone());
                    return Some(shown(number, &frame));
                }
                Some(Out::Close(why)) => self.end = Some(ended(why)),
                None => self.end = Some(over(&self.server)),
            },
            _ = self.heartbeat.tick() => {
                self.end = self.half.connection.lock().await.check().await.err();
                return self.end.is_none().then(|| SseEvent::default().comment(""));
            }
            _ = self.rechecks.changed() => {
                self.end = self.half.connection.lock().await.check().await.err();
            }
        }
        None
    }
}

fn shown(number: u64, frame: &[u8]) -> SseEvent {
    SseEvent::default().id(number.to_string()).data(BASE64_STANDARD.encode(frame))
}

impl Drop for Absence {
    fn drop(&mut self) {
        let (server, key) = (Arc::clone(&self.server), self.key.clone());
        let (half, stream) = (Arc::clone(&self.half), self.stream);
        // Outside of the runtime the server is gone already.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let mut closing = server.closing();
            let known = server.live().streams.held().contains_key(&key);
            tokio::select! {
                () = until(&mut closing, |closing| *closing) => {}
                () = tokio::time::sleep(ABSENCE), if known => {}
                else => {}
            }
            if *half.streams.borrow() == stream {
                server.live().streams.held().retain(|_, other| !Arc::ptr_eq(other, &half));
                half.connection.lock().await.leave().await;
            }
        });
    }
}

/// Frames, each after its length in four bytes, big-endian.
pub async fn frames(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(id): Path<String>,
    Params(named): Params<Named>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let key = (id, named.checked()?);
    let half = find(&server, &key, &caller).await?.ok_or_else(gone)?;
    let silence_ms = server.limits().body_silence_ms;
    let body = body::read(request, POST_BYTES_MAX, silence_ms).await?;
    let mut rest = &body[..];
    while !rest.is_empty() {
        let cut = || ApiError::new(Code::Malformed, "a frame is cut short");
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
        let length = u32::from_be_bytes(*length) as usize;
        if length > FRAME_BYTES_MAX {
            let message = format!("a frame has at most {FRAME_BYTES_MAX} bytes");
            return Err(ApiError::new(Code::TooLarge, message));
        }
        let (frame, after) = after.split_at_checked(length).ok_or_else(cut)?;
        half.connection.lock().await.frame(frame.to_vec()).await.map_err(|_| gone())?;
        rest = after;
    }
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed() -> Feed {
        let (_, out) = tokio::sync::mpsc::unbounded_channel();
        Feed { out, next: 1, kept: VecDeque::new(), kept_bytes: 0 }
    }

    #[test]
    fn what_may_not_have_arrived_is_sent_again_and_nothing_else() {
        let mut feed = feed();
        assert_eq!(feed.after(0), Some(Vec::new()));
        for n in 1..=3u8 {
            feed.push(Frame::from(vec![n]));
        }
        let numbers =
            |last| feed.after(last).map(|a| a.into_iter().map(|(n, f)| (n, f[0])).collect());
        assert_eq!(numbers(0), Some(vec![(1, 1), (2, 2), (3, 3)]));
        assert_eq!(numbers(2), Some(vec![(3, 3)]));
        assert_eq!(numbers(3), Some(Vec::new()));
        assert_eq!(numbers(4), None, "it cannot have seen what was not sent");
    }

    #[test]
    fn what_is_kept_no_more_is_not_passed_over() {
        let mut feed = feed();
        for n in 0..3u8 {
            feed.push(Frame::from(vec![n; KEPT_BYTES_MAX / 2]));
        }
        assert_eq!(feed.after(0), None);
        assert_eq!(feed.after(1).map(|again| again.len()), Some(2));
    }
}
