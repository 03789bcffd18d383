//! Lets clients finish what they are saying to a request that was answered already.
//!
//! Invariant: a refusal reaches whoever goes on sending. A socket that is closed with unread bytes
//! in it is reset, and a reset takes the answer with it (RFC 9112, 9.6); so what nobody reads is
//! read and thrown away, at the pace of [`Incoming`] and at most [`BYTES_MAX`] of it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, BodyDataStream, HttpBody};
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use futures_util::Stream;
use tokio::runtime::Handle;

use crate::body::Incoming;
use crate::state::Server;

/// Most bytes of a body that are read for nothing: twice the largest body there is.
const BYTES_MAX: u64 = 64 << 20;

/// Passes a request on with a body that is heard out when it is dropped.
pub async fn hear_out(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    // Whoever waits to be told to go on sends nothing after a refusal.
    let waits = request.headers().contains_key(header::EXPECT);
    if waits || request.body().is_end_stream() {
        return next.run(request).await;
    }
    let runtime = Handle::current();
    let wrap = |body: Body| {
        Body::from_stream(HeardOut { rest: Some(body.into_data_stream()), server, runtime })
    };
    next.run(request.map(wrap)).await
}

struct HeardOut {
    /// `None` once it has ended.
    rest: Option<BodyDataStream>,
    server: Arc<Server>,
    runtime: Handle,
}

impl Stream for HeardOut {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        let polled = Pin::new(rest).poll_next(context);
        if let Poll::Ready(None | Some(Err(_))) = polled {
            self.rest = None;
        }
        polled
    }
}

impl Drop for HeardOut {
    fn drop(&mut self) {
        let Some(rest) = self.rest.take() else { return };
        let mut rest = Incoming::of(rest, self.server.limits().body_silence_ms);
        let mut closing = self.server.closing();
        let heard_out = async move {
            let mut heard = 0;
            // An error ends it as the end does: nobody is there to be told.
            while let Ok(Some(piece)) = rest.next().await {
                heard += piece.len() as u64;
                if heard > BYTES_MAX {
                    return;
                }
            }
        };
        self.runtime.spawn(async move {
            tokio::select! {
                () = heard_out => {}
                // A server that ends waits for answers, not for what nobody reads.
                _ = closing.wait_for(|closing| *closing) => {}
            }
        });
    }
}
