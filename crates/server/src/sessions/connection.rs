//! A connection into a session, whatever carries its frames.
//!
//! Invariants: what waits for a client is bounded by its room; a token that ends or is revoked, or
//! a membership that changes, is heard of at once where it happened here, and within one heartbeat
//! where another process did it.

use std::sync::Arc;

use crucible_live::room::{ClientId, Closing, Event, Person, Role};
use crucible_trust::rights::{Access, Op};
use tokio::sync::{mpsc, watch};

use super::{enter, person};
use crate::caller::{Caller, still_good};
use crate::error::{ApiError, Code};
use crate::live::{Handle, Message, Out};
use crate::state::Server;

/// Why a connection ends: a WebSocket's close code, and what it means.
pub type Ended = (u16, &'static str);

/// The server is going down.
pub const RESTART: Ended = (1012, "the server restarts");
/// The token is no longer good.
pub const SIGNED_OUT: Ended = (4401, "the token is no longer good for this session");
/// A frame that is none.
pub const MALFORMED: Ended = (4400, "a frame could not be read");
/// It takes nothing.
pub const SLOW: Ended = (4408, "the connection is too slow; join again");
/// A frame above the protocol's bound.
pub const TOO_LARGE: Ended = (4413, "a frame has more than 256 KiB");
/// More than a client may send.
pub const FAST: Ended = (4429, "too many frames in too short a time");
/// The session is over.
const OVER: Ended = (4410, "the session has ended");

/// Why a session is not there any more: with the server, which comes again, or for good.
pub fn over(server: &Server) -> Ended {
    if *server.closing().borrow() { RESTART } else { OVER }
}

/// Waits until a value is as wanted; for ever, when nobody can change it any more.
pub async fn until<T>(value: &mut watch::Receiver<T>, wanted: impl FnMut(&T) -> bool) {
    if value.wait_for(wanted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Code and reason of what a room says.
pub fn ended(why: Closing) -> Ended {
    (why.code(), why.reason())
}

/// Somebody in a session.
pub struct Connection {
    pub server: Arc<Server>,
    pub caller: Caller,
    pub handle: Handle,
    id: ClientId,
    person: Person,
    role: Role,
}

impl Connection {
    /// Checks who comes to which session; nobody hears of it yet.
    ///
    /// # Errors
    /// There is no such session, or none for them.
    pub async fn new(server: Arc<Server>, caller: Caller, session: &str) -> Result<Self, ApiError> {
        let (handle, entry) = enter(&server, &caller, session, Op::Read).await?;
        let (person, role) = person(&server, &caller, entry.access).await?;
        let id = server.live().client();
        Ok(Self { server, caller, handle, id, person, role })
    }

    /// Joins; what is for them comes out of the receiver.
    ///
    /// # Errors
    /// The session has ended.
    pub async fn join(&self) -> Result<mpsc::UnboundedReceiver<Out>, ApiError> {
        let (out, frames) = mpsc::unbounded_channel();
        let join = Message::Join(self.id, self.person.clone(), self.role, out);
        self.handle.tell(join).await?;
        Ok(frames)
    }

    /// Leaves.
    pub async fn leave(&self) {
        // The session may have ended before its connections.
        let _ = self.tell(Event::Gone(self.id)).await;
    }

    /// Brings a frame; waits while the room is busy.
    ///
    /// # Errors
    /// How the connection ends.
    pub async fn frame(&self, bytes: Vec<u8>) -> Result<(), Ended> {
        self.tell(Event::Frame(self.id, bytes)).await
    }

    /// Says what the client has taken.
    ///
    /// # Errors
    /// How the connection ends.
    pub async fn sent(&self, frames: usize, bytes: usize) -> Result<(), Ended> {
        self.tell(Event::Sent(self.id, frames, bytes)).await
    }

    /// Asks again who they are and what they may do.
    ///
    /// # Errors
    /// How the connection ends.
    pub async fn check(&mut self) -> Result<(), Ended> {
        let caller = self.caller.clone();
        let good = self.server.quick(move |s| still_good(s, &caller)).await;
        let entry = self.server.enter(&self.caller, &self.handle.vault_name, Op::Read).await;
        let role = match (good, entry) {
            (Ok(()), Ok(entry)) => match entry.access {
                Access::Read => Role::Read,
                Access::Write => Role::Write,
            },
            // A server that is busy for a moment revokes nothing.
            (Err(error), _) | (_, Err(error)) if error.code == Code::Unavailable => self.role,
            _ => return Err(SIGNED_OUT),
        };
        if role != self.role {
            self.role = role;
            self.tell(Event::Role(self.id, role)).await?;
        }
        Ok(())
    }

    async fn tell(&self, event: Event) -> Result<(), Ended> {
        self.handle.tell(Message::Event(event)).await.map_err(|_| over(&self.server))
    }
}
