//! One session's task: what its room wants done is done here, and what came of it goes back.
//!
//! Invariant: the room alone decides. Asks, writes and checkpoints run beside the task, at most
//! one of each at a time, and answer into its own queue.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crucible_core::id::{NoteId, VaultId, VersionId};
use crucible_core::vault_path::VaultPath;
use crucible_core::version::Kind;
use crucible_live::documents::{Answer, Ask, Brought, DocId, Version};
use crucible_live::room::{Action, ClientId, Closing, Content, Event, Head, Person, Room};
use crucible_live::stored::Stored;
use crucible_store::server_repo::Origin;
use crucible_sync::mint::{Change, Found};
use crucible_trust::rights::Access;
use tokio::sync::mpsc;

use super::documents::Trial;
use super::{Handle, Live, Message, Out};
use crate::error::{ApiError, Code};
use crate::history::Names;
use crate::rounds::{Party, Write};
use crate::state::Server;

/// How often a document is opened again for one question.
const TRIES_MAX: usize = 5;

struct Task {
    server: Arc<Server>,
    handle: Handle,
    room: Room,
    clients: HashMap<ClientId, mpsc::UnboundedSender<Out>>,
    /// Where asks, writes and checkpoints answer.
    inside: mpsc::UnboundedSender<Inside>,
    /// Checkpoints begun and ended: what was read of the note before either is of no use after.
    saves: u64,
    /// The room's time: the server's clock as far as it goes forward. (Set back by an hour, it
    /// would be an hour until the next checkpoint.)
    now_ms: u64,
    clock_ms: u64,
    /// The note is being looked at, and whether to look again after that.
    looking: Option<bool>,
}

/// What comes back from beside the task.
enum Inside {
    Event(Event),
    /// The note as it was read at some moment, and `saves` when that began.
    Looked(u64, Result<(Head, Option<String>), ApiError>),
}

/// Runs a session to its end.
pub async fn run(
    server: Arc<Server>,
    handle: Handle,
    room: Room,
    mut messages: mpsc::Receiver<Message>,
) {
    let shared = Arc::clone(&server);
    let _present = shared.metrics().sessions.enter();
    let (inside, mut answers) = mpsc::unbounded_channel();
    let mut roots = server.listen(handle.vault);
    let mut closing = server.closing();
    let clients = HashMap::new();
    let now_ms = server.now_ms();
    let mut task = Task {
        server,
        handle,
        room,
        clients,
        inside,
        saves: 0,
        now_ms,
        clock_ms: now_ms,
        looking: None,
    };
    task.look_outside();
    loop {
        let now_ms = task.now_ms();
        let pause = task.room.next_tick_ms(now_ms).saturating_sub(now_ms);
        let event = tokio::select! {
            // Answers first: they are what the room waits for.
            biased;
            _ = closing.wait_for(|closing| *closing) => break,
            Some(inside) = answers.recv() => match inside {
                Inside::Event(event) => event,
                Inside::Looked(saves, found) => match task.looked(saves, found) {
                    Some(head) => Event::Outside(head),
                    None => continue,
                },
            },
            message = messages.recv() => match message {
                Some(Message::Event(event)) => event,
                Some(Message::Join(id, person, role, out)) => {
                    let who = (person.user, person.device);
                    task.clients.insert(id, out);
                    task.server.live().notice(&task.handle, "joined", Some(who));
                    Event::Connected(id, person, role)
                }
                None => break,
            },
            changed = roots.changed() => {
                if changed.is_err() {
                    break;
                }
                roots.borrow_and_update();
                task.look_outside();
                continue;
            }
            () = tokio::time::sleep(Duration::from_millis(pause)) => Event::Tick,
        };
        if task.take(event) {
            break;
        }
    }
    task.end();
}

impl Task {
    fn now_ms(&mut self) -> u64 {
        let clock_ms = self.server.now_ms();
        self.now_ms += clock_ms.saturating_sub(self.clock_ms);
        self.clock_ms = clock_ms;
        self.now_ms
    }

    /// Returns whether the session is over.
    fn take(&mut self, event: Event) -> bool {
        if matches!(event, Event::Saved(..) | Event::SaveFailed(_)) {
            self.saves += 1;
        }
        if let Event::Saved(..) = &event {
            self.server.live().notice(&self.handle, "saved", None);
        }
        if let Event::Gone(id) = &event {
            self.clients.remove(id);
        }
        // Nobody else comes or goes; most events are frames.
        let mut moved = matches!(event, Event::Connected(..) | Event::Gone(_));
        let now_ms = self.now_ms();
        self.room.handle(now_ms, event);
        let mut over = false;
        while let Some(action) = self.room.poll_action() {
            over |= action == Action::Over;
            moved |= matches!(action, Action::Close(..));
            self.act(action);
        }
        if moved {
            self.note_people();
        }
        self.handle.settled.store(self.room.is_flushed(), Ordering::Release);
        over
    }

    fn note_people(&self) {
        let present = self.room.present();
        let mut shared = self.handle.lock();
        let left: Vec<_> = shared.people.difference(&present).copied().collect();
        shared.people = present;
        drop(shared);
        for who in left {
            self.server.live().notice(&self.handle, "left", Some(who));
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Ask(ask) => self.beside(Self::ask, ask),
            Action::Journal(write) => self.beside(Self::journal, write),
            Action::Send(id, frame) => {
                let out = self.clients.get(&id);
                // A connection that has ended says so itself.
                let _ = out.map(|out| out.send(Out::Frame(frame)));
            }
            Action::Close(id, why) => {
                if !matches!(why, Closing::Over | Closing::Renewed | Closing::Full) {
                    self.server.metrics().session_evictions.add(1);
                }
                let out = self.clients.remove(&id);
                let _ = out.map(|out| out.send(Out::Close(why)));
            }
            Action::Save { base, text, editor, others } => {
                self.saves += 1;
                self.beside(Self::save, (base, text, editor, others));
            }
            Action::Over => {}
        }
    }

    /// Does something beside the task; what comes of it is an event.
    fn beside<I, F>(&self, work: impl FnOnce(Arc<Server>, Handle, I) -> F, with: I)
    where
        F: Future<Output = Event> + Send + 'static,
    {
        let work = work(Arc::clone(&self.server), self.handle.clone(), with);
        let inside = self.inside.clone();
        tokio::spawn(async move {
            // The task may have ended with the server.
            let _ = inside.send(Inside::Event(work.await));
        });
    }

    async fn ask(server: Arc<Server>, handle: Handle, ask: Ask) -> Event {
        let live = server.live();
        for _ in 0..TRIES_MAX {
            match live.documents.ask(handle.doc, ask.clone()).await {
                Ok(reply) if reply.answer == Answer::Absent && ask != Ask::Close => {
                    // The process ended between two questions.
                    let Ok(Some(session)) = live.journal.load(&handle.id).await else { break };
                    if reopen(live, handle.doc, &session.stored).await.is_err() {
                        return recover(live, &handle, ask).await;
                    }
                    // The room may know more than the journal: it asks again.
                    return Event::Reopened(Vec::new(), Vec::new());
                }
                Ok(reply) => return Event::Answered(reply.answer, reply.poisoners),
                // Another document's question ended the process, as far as one can see.
                Err(died) if !died.suspect => {}
                Err(_) => {
                    server.metrics().document_trials.add(1);
                    return recover(live, &handle, ask).await;
                }
            }
        }
        Event::Answered(Answer::Absent, Vec::new())
    }

    async fn journal(
        server: Arc<Server>,
        handle: Handle,
        write: crucible_live::room::Write,
    ) -> Event {
        let live = server.live();
        let updates = write.turn.as_ref().map_or(0, |(_, records)| records.len());
        server.metrics().session_turns.add(u64::from(updates > 0));
        server.metrics().session_updates.add(updates as u64);
        let Err(error) = live.journal.write(&handle.id, write).await else {
            return Event::Journaled;
        };
        // What the document took is not to be: the next question opens it as the journal has it.
        let _ = live.documents.ask(handle.doc, Ask::Close).await;
        Event::JournalFailed(error.message)
    }

    async fn save(
        server: Arc<Server>,
        handle: Handle,
        (base, text, editor, others): (VersionId, String, Person, Vec<Person>),
    ) -> Event {
        let origin = Origin {
            user: editor.user,
            device: editor.device,
            received_ms: server.now_ms(),
            address: Origin::in_session(&handle.id),
            others: others.iter().map(|other| (other.user, other.device)).collect(),
        };
        let (vault, note) = (handle.vault, handle.note);
        let path = handle.path();
        let written = server
            .writing(vault, move |s| {
                let path = VaultPath::new(&path)
                    .map_err(|error| ApiError::new(Code::BadRequest, error.to_string()))?;
                let revision = s.archive().revision(&vault, &base)?;
                let is_live = revision.is_some_and(|revision| revision.version.live().is_some());
                let bytes: Arc<[u8]> = text.into_bytes().into();
                let found = Found::of(&bytes, &path);
                // A deleted note comes back where it was.
                let at = (!is_live).then_some(path);
                let change = Change::Edited { base, path: at, found };
                let write = Write { change, bytes: Some(bytes), closes: Vec::new() };
                let party = Party { origin, access: Access::Write };
                let written = s.rounds().write(&vault, &party, &write)?;
                s.announce(vault, written.root);
                Ok((written.id, head(s, &vault, &note)?))
            })
            .await;
        match written {
            Ok((id, (head, _))) => {
                server.metrics().session_saves.add(1);
                Event::Saved(id, head)
            }
            Err(error) => {
                let (path, message) = (handle.path(), &error.message);
                tracing::warn!(path, message, "a live session could not be saved; it will be");
                server.metrics().session_saves_failed.add(1);
                Event::SaveFailed(error.message)
            }
        }
    }

    /// Looks whether the note is what it was, and where. One look at a time: of two, the earlier
    /// could answer last.
    fn look_outside(&mut self) {
        if let Some(again) = &mut self.looking {
            *again = true;
            return;
        }
        self.looking = Some(false);
        let (server, saves) = (Arc::clone(&self.server), self.saves);
        let (vault, note) = (self.handle.vault, self.handle.note);
        let inside = self.inside.clone();
        tokio::spawn(async move {
            let found = server.blocking(move |s| head(s, &vault, &note)).await;
            // The task may have ended with the server.
            let _ = inside.send(Inside::Looked(saves, found));
        });
    }

    /// What a look found; `None` where that may be older than our own last checkpoint.
    fn looked(
        &mut self,
        saves: u64,
        found: Result<(Head, Option<String>), ApiError>,
    ) -> Option<Head> {
        let again = self.looking.take() == Some(true) || saves != self.saves;
        if again {
            self.look_outside();
        }
        match found {
            Ok(_) if saves != self.saves => None,
            Ok((head, path)) => {
                if let Some(path) = path.filter(|path| *path != self.handle.path()) {
                    self.handle.lock().path.clone_from(&path);
                    self.take(Event::Moved(path));
                }
                Some(head)
            }
            Err(error) => {
                tracing::warn!(message = error.message, "the note was not read");
                None
            }
        }
    }

    fn end(self) {
        for out in self.clients.values() {
            let _ = out.send(Out::Close(Closing::Over));
        }
        let live = self.server.live();
        live.held().remove(&self.handle.id);
        live.notice(&self.handle, "closed", None);
    }
}

/// The note's head and where it is.
fn head(
    server: &Server,
    vault: &VaultId,
    note: &NoteId,
) -> Result<(Head, Option<String>), ApiError> {
    let standing = server.archive().standing(vault, &[*note])?.pop().flatten();
    let standing = standing.ok_or_else(|| ApiError::not_found("note"))?;
    let version = standing.id;
    let by = author(server, vault, &version)?;
    let Some(live) = standing.version.live() else {
        return Ok((Head { version, content: Content::Deleted, by }, None));
    };
    let bytes = match live.kind {
        Kind::Note => server.archive().content(vault, &live.content)?,
        Kind::Asset => None,
    };
    let text = bytes.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
    let content = text.map_or(Content::NotText, Content::Text);
    Ok((Head { version, content, by }, Some(live.path.to_string())))
}

/// Whose version it is, for the others in a session: a person on a device.
fn author(server: &Server, vault: &VaultId, version: &VersionId) -> Result<String, ApiError> {
    let revision = server.archive().revision(vault, version)?;
    let Some(origin) = revision.and_then(|revision| revision.origin) else {
        return Ok(String::new());
    };
    Names::default().person(server, origin.user, origin.device)
}

/// Opens a document as the journal has it; without what ends the process, if something does.
///
/// # Errors
/// It cannot be read, or nothing helps.
pub async fn open_again(live: &Live, doc: DocId, stored: &Stored) -> Result<Version, ApiError> {
    for _ in 0..TRIES_MAX {
        // Another document may have ended it.
        if let Ok(version) = reopen(live, doc, stored).await {
            return Ok(version);
        }
    }
    without_bad_records(live, doc, stored, Vec::new()).await.map(|(_, version)| version)
}

/// Finds what of journal and updates ends the process, and opens the document without it.
async fn without_bad_records(
    live: &Live,
    doc: DocId,
    stored: &Stored,
    updates: Vec<Brought>,
) -> Result<(Trial, Version), ApiError> {
    let trial = live.documents.trial(stored.ask(), updates).await;
    // Nothing is anybody's fault where nothing can be tried.
    let trial = trial.map_err(|error| ApiError::internal(&error))?;
    let mut open = stored.ask();
    if let Ask::Open(_, records, _) = &mut open {
        let mut place = 0..;
        records.retain(|_| !place.next().is_some_and(|at| trial.bad_records.contains(&at)));
    }
    match live.documents.ask(doc, open).await.map(|reply| reply.answer) {
        Ok(Answer::Opened(version, _)) => Ok((trial, version)),
        _ => Err(ApiError::internal(&std::io::Error::other("a document does not open"))),
    }
}

/// Opens a document as the journal has it.
///
/// # Errors
/// The process ended over it, or it cannot be read.
async fn reopen(live: &Live, doc: DocId, stored: &Stored) -> Result<Version, ApiError> {
    match live.documents.ask(doc, stored.ask()).await.map(|reply| reply.answer) {
        Ok(Answer::Opened(version, _)) => Ok(version),
        _ => Err(ApiError::internal(&std::io::Error::other("a document does not open"))),
    }
}

/// Finds what ended the process, and opens the document without it.
async fn recover(live: &Live, handle: &Handle, ask: Ask) -> Event {
    let lost = || Event::Answered(Answer::Absent, Vec::new());
    let Ok(Some(session)) = live.journal.load(&handle.id).await else { return lost() };
    let updates = match ask {
        Ask::Import(updates, ..) => updates,
        _ => Vec::new(),
    };
    match without_bad_records(live, handle.doc, &session.stored, updates).await {
        Ok((trial, _)) => Event::Reopened(trial.killers, trial.poisoners),
        Err(_) => lost(),
    }
}
