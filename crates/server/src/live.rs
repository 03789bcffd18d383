//! The sessions that are live on this server: which there are, and one task for each.
//!
//! Invariants: one session a note; a session that was opened is in `crdt.db` before anybody hears
//! of it, and is taken up again when the server starts, whoever is there.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crucible_core::hash::ContentHash;
use crucible_core::id::{DeviceId, NoteId, UserId, VaultId, VersionId};
use crucible_live::documents::{Answer, Ask, DocId};
use crucible_live::frames::Frame;
use crucible_live::limits::DOCUMENT_BYTES_MAX;
use crucible_live::line_ends::{Ends, lf};
use crucible_live::room::{ClientId, Closing, Event, Flushed, Person, Role, Room, text_hash};
use crucible_live::stored::Stored;
use crucible_store::crdt_db::{CrdtDb, Session};
use crucible_store::server_repo::{RevisionQuery, Scope};
use tokio::sync::{broadcast, mpsc, watch};

use crate::error::{ApiError, Code};
use crate::sessions::stream::Streams;
use crate::state::Server;
use documents::{DocumentsHost, Spawner};
use journal::Journal;

pub mod documents;
mod journal;
mod task;

/// Messages that wait for a room; a connection that brings more waits itself.
const INBOX_MAX: usize = 1_024;
/// Notices that a slow listener may be behind.
const NOTICES_MAX: usize = 256;
/// Sessions at a time on one server.
const SESSIONS_MAX: usize = 10_000;
/// Versions of a note looked through for a checkpoint that a crash cut short.
const LOOK_BACK: usize = 64;

/// Between two tries to take up a session.
const RESUME_PAUSE: Range<Duration> = Duration::from_millis(500)..Duration::from_secs(30);
/// The longest time for all sessions to become versions before the server ends.
const SETTLE_MAX: Duration = Duration::from_secs(5);
/// Between two looks whether all sessions are stored.
const SETTLE_LOOK: Duration = Duration::from_millis(10);

/// What live sessions are made with.
pub struct LiveParts {
    /// What of them is durable.
    pub crdt: CrdtDb,
    /// How the process with the documents is started.
    pub spawner: Spawner,
}

/// All sessions of a server.
pub struct Live {
    documents: Arc<DocumentsHost>,
    journal: Journal,
    sessions: Mutex<BTreeMap<String, Handle>>,
    /// One at a time is opened: of two who ask for a note at once, the second joins the first. In
    /// it are sessions of `crdt.db` that could not be taken up yet, and their notes.
    opening: tokio::sync::Mutex<BTreeMap<String, (VaultId, NoteId)>>,
    next_doc: AtomicU64,
    next_client: AtomicU64,
    notices: broadcast::Sender<Notice>,
    rechecks: watch::Sender<u64>,
    /// Connections without a WebSocket.
    pub(crate) streams: Streams,
}

/// A live session, for those outside its task.
#[derive(Clone)]
pub struct Handle {
    /// Its name.
    pub id: String,
    /// Its document's.
    pub epoch: String,
    /// Where the note is.
    pub vault: VaultId,
    /// What people call the vault.
    pub vault_name: String,
    /// Which note.
    pub note: NoteId,
    /// When it began, in milliseconds since 1970.
    pub opened_ms: u64,
    doc: DocId,
    shared: Arc<Mutex<Shared>>,
    /// Layer 1 has everything.
    settled: Arc<AtomicBool>,
    inbox: mpsc::Sender<Message>,
}

/// What a session's task tells others.
#[derive(Default)]
struct Shared {
    path: String,
    people: BTreeSet<(UserId, DeviceId)>,
}

/// What reaches a session's task from outside.
pub enum Message {
    /// Somebody connected; frames for them go to the sender.
    Join(ClientId, Person, Role, mpsc::UnboundedSender<Out>),
    /// Something happened.
    Event(Event),
}

/// What goes to a connection.
#[derive(Debug, Clone)]
pub enum Out {
    /// A frame.
    Frame(Frame),
    /// The end.
    Close(Closing),
}

/// What other people online may like to know.
#[derive(Debug, Clone)]
pub struct Notice {
    /// `opened`, `joined`, `left`, `saved`, `closed`
    pub what: &'static str,
    /// Of which session.
    pub id: String,
    /// In which vault.
    pub vault: VaultId,
    /// What people call it.
    pub vault_name: String,
    /// Of which note.
    pub path: String,
    /// Who joined or left.
    pub who: Option<(UserId, DeviceId)>,
}

impl Live {
    /// No session yet; [`resume`] takes up those that were live.
    pub fn new(parts: LiveParts) -> Self {
        Self {
            documents: Arc::new(DocumentsHost::new(parts.spawner)),
            journal: Journal::start(parts.crdt),
            sessions: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            next_doc: AtomicU64::new(1),
            next_client: AtomicU64::new(1),
            notices: broadcast::Sender::new(NOTICES_MAX),
            rechecks: watch::Sender::new(0),
            streams: Streams::default(),
        }
    }

    /// A number for a connection.
    pub fn client(&self) -> ClientId {
        ClientId(self.next_client.fetch_add(1, Ordering::Relaxed))
    }

    /// Listens to what opens and closes from now on.
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    /// Somebody's rights have changed: connections look at their own again.
    pub fn recheck(&self) {
        self.rechecks.send_modify(|count| *count += 1);
    }

    /// Changes when rights have.
    pub fn rechecks(&self) -> watch::Receiver<u64> {
        self.rechecks.subscribe()
    }

    fn notice(&self, handle: &Handle, what: &'static str, who: Option<(UserId, DeviceId)>) {
        // Nobody may be listening.
        let _ = self.notices.send(Notice {
            what,
            id: handle.id.clone(),
            vault: handle.vault,
            vault_name: handle.vault_name.clone(),
            path: handle.path(),
            who,
        });
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Handle>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session by its name.
    pub fn get(&self, id: &str) -> Option<Handle> {
        self.held().get(id).cloned()
    }

    /// The session of a note.
    pub fn of_note(&self, vault: &VaultId, note: &NoteId) -> Option<Handle> {
        self.held().values().find(|h| h.vault == *vault && h.note == *note).cloned()
    }

    /// All sessions, in the order of their names.
    pub fn all(&self) -> Vec<Handle> {
        self.held().values().cloned().collect()
    }

    /// The text of a session as its document has it.
    pub async fn text(&self, handle: &Handle) -> Result<String, ApiError> {
        match self.documents.ask(handle.doc, Ask::Show).await.map(|reply| reply.answer) {
            Ok(Answer::Text(text, _)) => Ok(text),
            _ => Err(ApiError::new(Code::Unavailable, "the session is being opened again")
                .hint("try again in a moment")),
        }
    }
}

impl Handle {
    /// Where the note is now.
    pub fn path(&self) -> String {
        self.lock().path.clone()
    }

    /// Who is connected.
    pub fn people(&self) -> BTreeSet<(UserId, DeviceId)> {
        self.lock().people.clone()
    }

    /// Whether Layer 1 has everything; so it has when the session is over.
    fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire) || self.inbox.is_closed()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the session's task; waits while it is busy.
    ///
    /// # Errors
    /// The session has ended.
    pub async fn tell(&self, message: Message) -> Result<(), ApiError> {
        self.inbox.send(message).await.map_err(|_| gone())
    }
}

fn gone() -> ApiError {
    ApiError::not_found("session").hint("it has ended; open the note again")
}

/// The note that a session is to be about.
pub struct Subject {
    /// In which vault, and what that is called.
    pub vault: VaultId,
    /// See [`Handle::vault_name`].
    pub vault_name: String,
    /// Which.
    pub note: NoteId,
    /// Where it is.
    pub path: String,
    /// Its head.
    pub version: VersionId,
    /// The head's text.
    pub text: String,
}

/// Opens a session, or finds the one that is live; the second says whether it is new.
pub async fn open(server: &Arc<Server>, subject: Subject) -> Result<(Handle, bool), ApiError> {
    let live = server.live();
    let mut waiting = live.opening.lock().await;
    let note = (subject.vault, subject.note);
    let left = waiting.iter().find(|(_, of)| **of == note).map(|(id, _)| id.clone());
    if let Some(id) = left {
        // Its words are not in Layer 1 yet: a second session would hide them.
        take_up(server, &id).await?;
        waiting.remove(&id);
    }
    if let Some(handle) = live.of_note(&subject.vault, &subject.note) {
        return Ok((handle, false));
    }
    if live.held().len() >= SESSIONS_MAX {
        let message = "too many notes are being edited live on this server";
        return Err(ApiError::new(Code::Unavailable, message).hint("try again later"));
    }
    let text = lf(&subject.text);
    if text.len() > DOCUMENT_BYTES_MAX {
        let message = format!("{} is too long to be edited live", subject.path);
        return Err(ApiError::new(Code::TooLarge, message)
            .hint("edit it in its folder; notes up to 4 MiB can be edited live"));
    }
    let doc = live.next_doc.fetch_add(1, Ordering::Relaxed);
    let hash = text_hash(&text);
    let seeded = live.documents.ask(doc, Ask::Seed(text)).await.map(|reply| reply.answer);
    let Ok(Answer::Opened(version, snapshot)) = seeded else {
        return Err(ApiError::new(Code::Unavailable, "the session could not be opened")
            .hint("try again in a moment; the server's log says more"));
    };
    let stored = Stored {
        id: random_name()?,
        epoch: random_name()?,
        flushed: Flushed { base: subject.version, hash, at: version.clone(), turn: 0 },
        intent: None,
        snapshot,
        snapshot_turn: 0,
        turns: BTreeMap::new(),
        people: Vec::new(),
        authors: BTreeMap::new(),
        editors: Vec::new(),
    };
    let begun = stored.begun(version, Ends::of(&subject.text), false);
    let session =
        Session { vault: subject.vault, note: subject.note, opened_ms: server.now_ms(), stored };
    let (handle, messages) = handle(&session, subject.vault_name, subject.path, doc);
    live.journal.create(session).await?;
    let room = Room::new(begun, server.now_ms());
    start(server, handle.clone(), room, messages);
    live.notice(&handle, "opened", None);
    Ok((handle, true))
}

fn handle(
    session: &Session,
    vault_name: String,
    path: String,
    doc: DocId,
) -> (Handle, mpsc::Receiver<Message>) {
    let (inbox, messages) = mpsc::channel(INBOX_MAX);
    let handle = Handle {
        id: session.stored.id.clone(),
        epoch: session.stored.epoch.clone(),
        vault: session.vault,
        vault_name,
        note: session.note,
        opened_ms: session.opened_ms,
        doc,
        shared: Arc::new(Mutex::new(Shared { path, people: BTreeSet::new() })),
        settled: Arc::default(),
        inbox,
    };
    (handle, messages)
}

fn start(server: &Arc<Server>, handle: Handle, room: Room, messages: mpsc::Receiver<Message>) {
    server.live().held().insert(handle.id.clone(), handle.clone());
    tokio::spawn(task::run(Arc::clone(server), handle, room, messages));
}

/// Takes up the sessions that were live when the server ended; those that cannot be are tried
/// again until they can.
pub async fn resume(server: &Arc<Server>) -> Result<(), ApiError> {
    let live = server.live();
    let mut waiting = live.opening.lock().await;
    for id in live.journal.all().await? {
        let Err(error) = take_up(server, &id).await else { continue };
        tracing::error!(session = id, message = error.message, "a session was not taken up yet");
        if let Ok(Some(Session { vault, note, .. })) = live.journal.load(&id).await {
            waiting.insert(id, (vault, note));
        }
    }
    if !waiting.is_empty() {
        tokio::spawn(resume_waiting(Arc::clone(server)));
    }
    Ok(())
}

async fn resume_waiting(server: Arc<Server>) {
    let mut closing = server.closing();
    let mut pause = RESUME_PAUSE.start;
    loop {
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(RESUME_PAUSE.end);
        let mut waiting = server.live().opening.lock().await;
        let ids: Vec<_> = waiting.keys().cloned().collect();
        for id in ids {
            match take_up(&server, &id).await {
                Ok(()) => drop(waiting.remove(&id)),
                Err(error) => {
                    tracing::error!(session = id, message = error.message, "not taken up yet");
                }
            }
        }
        if waiting.is_empty() {
            return;
        }
    }
}

/// Stores what sessions hold as versions, before the server ends; what takes longer than
/// five seconds stays in `crdt.db` for the next start. Says whether anything is live.
pub async fn settle(server: &Arc<Server>) -> bool {
    let handles = server.live().all();
    for handle in &handles {
        handle.settled.store(false, Ordering::Release);
        // One that has ended has stored everything.
        let _ = handle.tell(Message::Event(Event::Settle)).await;
    }
    let left = || handles.iter().filter(|handle| !handle.is_settled()).count();
    let all = async {
        while left() > 0 {
            tokio::time::sleep(SETTLE_LOOK).await;
        }
    };
    if tokio::time::timeout(SETTLE_MAX, all).await.is_err() {
        tracing::warn!(
            sessions = left(),
            "not all live sessions became versions; they go on at the next start"
        );
    }
    !handles.is_empty()
}

async fn take_up(server: &Arc<Server>, id: &str) -> Result<(), ApiError> {
    let live = server.live();
    let Some(session) = live.journal.load(id).await? else { return Ok(()) };
    let Session { vault, note, opened_ms, mut stored } = session;
    let (decided, (vault_name, path, file)) = {
        let intent = stored.intent.clone();
        let base = stored.flushed.base;
        let (made, rest) = server
            .blocking(move |s| {
                let made = match intent {
                    Some(intent) => made_of(s, &vault, &note, &intent.base, &intent.stored)?,
                    None => None,
                };
                let base = made.unwrap_or(base);
                Ok((made, base_of(s, &vault, &base)?))
            })
            .await?;
        (stored.resolve(made), rest)
    };
    let doc = live.next_doc.fetch_add(1, Ordering::Relaxed);
    let version = task::open_again(live, doc, &stored).await?;
    let begun = stored.begun(version, Ends::of(&file), decided);
    let session = Session { vault, note, opened_ms, stored };
    let (handle, messages) = handle(&session, vault_name, path, doc);
    start(server, handle, Room::new(begun, server.now_ms()), messages);
    Ok(())
}

/// The version that Layer 1 made of a checkpoint, if a crash came after that and before it was
/// written down.
fn made_of(
    server: &Server,
    vault: &VaultId,
    note: &NoteId,
    base: &VersionId,
    stored: &ContentHash,
) -> Result<Option<VersionId>, ApiError> {
    let query = RevisionQuery { scope: Scope::Note(*note), before: None, limit: LOOK_BACK };
    let revisions = server.archive().revisions(vault, &query)?;
    let made = revisions.iter().find(|revision| {
        let live = revision.version.live();
        revision.version.parents == [*base] && live.is_some_and(|live| live.content == *stored)
    });
    Ok(made.map(|revision| revision.id))
}

/// The vault's name, and path and text of a version; empty where it is a deletion.
fn base_of(
    server: &Server,
    vault: &VaultId,
    base: &VersionId,
) -> Result<(String, String, String), ApiError> {
    let name = server.accounts().vault_by_id(vault)?.map(|vault| vault.name.to_string());
    let name = name.ok_or_else(|| ApiError::not_found("vault"))?;
    let revision = server.archive().revision(vault, base)?;
    let live = revision.as_ref().and_then(|revision| revision.version.live());
    let Some(live) = live else { return Ok((name, String::new(), String::new())) };
    let text = match server.archive().content(vault, &live.content)? {
        Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        None => String::new(),
    };
    Ok((name, live.path.to_string(), text))
}

fn random_name() -> Result<String, ApiError> {
    let bytes: [u8; 16] = crate::routes::random()?;
    Ok(crucible_core::hash::hex(&bytes))
}
