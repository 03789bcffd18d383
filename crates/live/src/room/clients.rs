//! Connections: what they may send, and what waits for them.

use serde_json::json;

use super::{Action, ClientId, Closing, Ending, Person, PersonNo, Role, Room, sender_of};
use crate::document::OURS;
use crate::documents::Version;
use crate::frames::{
    self, Assembly, BatchId, CrdtType, Frame, JoinErrorCode, Message, Permission, RoomErrorCode,
    Status,
};
use crate::limits::{
    BYTES_PER_S, CLIENTS_MAX, DOCUMENT_BYTES_MAX, FRAMES_PER_S, INBOX_BYTES_MAX, OUTBOX_BYTES_MAX,
    OUTBOX_FRAMES_MAX, PEOPLE_MS, PEOPLE_TOLD_MAX, SHUT_OUT_MS, UPDATE_BYTES_MAX,
    UPDATE_COST_BYTES,
};

/// One connection.
#[derive(Debug)]
pub struct Client {
    pub person: PersonNo,
    pub role: Role,
    /// It has the document and hears of edits.
    pub has_document: bool,
    /// It wants to hear who is where.
    presence: bool,
    /// It wants to hear how the session goes.
    control: bool,
    /// The document's version it has, once everything in its outbox has reached it; what it
    /// asked from, before it has the document.
    pub version: Version,
    assembly: Option<Assembly>,
    queued_frames: usize,
    queued_bytes: usize,
    /// It is told nothing until its outbox is empty; then everything at once.
    pub lagging_since: Option<u64>,
    frames: Bucket,
    bytes: Bucket,
    here_ms: u64,
}

/// What a client may spend.
#[derive(Debug)]
struct Bucket {
    level: u64,
    per_s: u64,
    most: u64,
    at_ms: u64,
}

impl Bucket {
    fn new(per_s: u64, seconds: u64, now_ms: u64) -> Self {
        let most = per_s * seconds * 1_000;
        Self { level: most, per_s, most, at_ms: now_ms }
    }

    /// In thousandths.
    fn spend(&mut self, amount: u64, now_ms: u64) -> bool {
        let gained = now_ms.saturating_sub(self.at_ms).saturating_mul(self.per_s);
        self.level = self.level.saturating_add(gained).min(self.most);
        self.at_ms = now_ms;
        match self.level.checked_sub(amount * 1_000) {
            Some(left) => self.level = left,
            None => return false,
        }
        true
    }
}

/// Updates of one frame, which get one Ack.
#[derive(Debug)]
pub struct Batch {
    pub client: ClientId,
    pub person: PersonNo,
    pub id: BatchId,
    pub updates: Vec<Vec<u8>>,
}

impl Batch {
    pub fn bytes(&self) -> usize {
        self.updates.iter().map(|update| update.len() + UPDATE_COST_BYTES).sum()
    }
}

impl Room {
    pub(super) fn connected(&mut self, now_ms: u64, id: ClientId, person: Person, role: Role) {
        assert!(id.0 < OURS >> 3, "connections are counted from one");
        if self.clients.len() >= CLIENTS_MAX {
            return self.act(Action::Close(id, Closing::Full));
        }
        if self.ending == Some(Ending::Left) {
            self.ending = None;
        }
        let known = self
            .people
            .iter()
            .position(|known| (known.user, known.device) == (person.user, person.device));
        let no = known.unwrap_or(self.people.len());
        match known {
            Some(no) => self.people[no].name = person.name,
            None => self.people.push(person),
        }
        self.shut_out.retain(|_, until| *until > now_ms);
        if self.shut_out.contains_key(&(no as PersonNo)) {
            return self.act(Action::Close(id, Closing::Fast));
        }
        let client = Client {
            person: no as PersonNo,
            role,
            has_document: false,
            presence: false,
            control: false,
            version: Version(Vec::new()),
            assembly: None,
            queued_frames: 0,
            queued_bytes: 0,
            lagging_since: None,
            frames: Bucket::new(FRAMES_PER_S, 2, now_ms),
            bytes: Bucket::new(BYTES_PER_S, 4, now_ms),
            here_ms: now_ms,
        };
        self.clients.insert(id, client);
        self.empty_since = None;
        self.people_changed = true;
    }

    pub(super) fn gone(&mut self, now_ms: u64, id: ClientId) {
        let Some(client) = self.clients.remove(&id) else { return };
        self.hands.push_back((id.0, sender_of(client.person)));
        self.joins.retain(|waiting| *waiting != id);
        if let Some(entries) = self.presence.drop_of(id, now_ms) {
            self.pass_on_presence(id, entries);
        }
        if self.clients.is_empty() {
            self.empty_since = Some(now_ms);
        }
        self.people_changed = true;
    }

    pub(super) fn role(&mut self, id: ClientId, role: Role) {
        if let Some(client) = self.clients.get_mut(&id)
            && client.role != role
        {
            client.role = role;
            let role = role_word(role);
            self.tell_one(id, &json!({ "type": "role", "role": role }));
            self.people_changed = true;
        }
    }

    /// Ends a connection whose updates cost the others time; its person may come back in a moment.
    pub(super) fn evict(&mut self, id: ClientId, why: Closing) {
        if let Some(client) = self.clients.get(&id) {
            self.shut_out.insert(client.person, self.now_ms + SHUT_OUT_MS);
            self.close(id, why);
        }
    }

    /// Ends a connection; the room forgets it at once.
    pub(super) fn close(&mut self, id: ClientId, why: Closing) {
        self.act(Action::Close(id, why));
        self.gone(self.now_ms, id);
    }

    pub(super) fn heard(&mut self, now_ms: u64, id: ClientId, frame: &[u8]) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if !client.frames.spend(1, now_ms) || !client.bytes.spend(frame.len() as u64, now_ms) {
            return self.close(id, Closing::Fast);
        }
        match frames::decode(frame) {
            Ok(message) if *room_of(&message) == self.id => self.message(now_ms, id, message),
            Ok(Message::JoinRequest { crdt, room_id, .. }) => {
                let message = format!("this connection is for the session {}", self.id);
                self.send(id, &join_error(crdt, room_id, message));
            }
            Ok(_) | Err(_) => self.close(id, Closing::Malformed),
        }
    }

    fn message(&mut self, now_ms: u64, id: ClientId, message: Message) {
        match message {
            Message::JoinRequest { crdt, version, .. } => self.join(id, crdt, version),
            Message::DocUpdate { crdt: CrdtType::Loro, updates, batch_id, .. } => {
                self.update(id, batch_id, updates);
            }
            Message::DocUpdate { crdt: CrdtType::LoroEphemeralStore, updates, .. } => {
                for entries in updates {
                    // Presence that cannot be read is nobody's loss.
                    if let Ok(peers) = self.presence.apply(id, &entries) {
                        self.people_changed |= !peers.is_empty();
                        self.claims.extend(peers.into_iter().map(|peer| (peer, id.0)));
                        self.pass_on_presence(id, entries);
                    }
                }
            }
            Message::DocUpdateFragmentHeader {
                crdt: CrdtType::Loro,
                batch_id,
                fragment_count,
                total_size_bytes,
                ..
            } => match Assembly::begin(batch_id, fragment_count, total_size_bytes, now_ms) {
                Ok(assembly) => self.assemble(id, Some(assembly)),
                Err(status) => self.ack(id, batch_id, status),
            },
            Message::DocUpdateFragment {
                crdt: CrdtType::Loro, batch_id, index, fragment, ..
            } => self.fragment(id, batch_id, index, fragment),
            Message::Leave { crdt, .. } => {
                if crdt == CrdtType::LoroEphemeralStore
                    && let Some(entries) = self.presence.drop_of(id, now_ms)
                {
                    self.pass_on_presence(id, entries);
                }
                if let Some(client) = self.clients.get_mut(&id) {
                    match crdt {
                        CrdtType::Loro => client.has_document = false,
                        CrdtType::LoroEphemeralStore => client.presence = false,
                        _ => client.control = false,
                    }
                }
            }
            Message::Ack { .. } => {}
            _ => self.close(id, Closing::Malformed),
        }
    }

    fn join(&mut self, id: ClientId, crdt: CrdtType, version: Vec<u8>) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if crdt != CrdtType::Loro && client.is_full() {
            // Whoever asks again and again, and takes nothing, gets nothing more.
            return self.close(id, Closing::Slow);
        }
        match crdt {
            CrdtType::Loro => {
                client.has_document = false;
                client.lagging_since = None;
                client.version = Version(version);
                if !self.joins.contains(&id) {
                    self.joins.push_back(id);
                }
            }
            CrdtType::LoroEphemeralStore => {
                client.presence = true;
                self.join_ok(id, crdt, Vec::new(), Vec::new());
                if let Some(entries) = self.presence.all() {
                    self.send_update(id, crdt, entries);
                }
            }
            CrdtType::LoroEphemeralStorePersisted => {
                client.control = true;
                self.join_ok(id, crdt, Vec::new(), Vec::new());
                let people = self.people_event();
                self.tell_one(id, &people);
            }
            other => {
                let room_id = self.id.clone();
                let message = "this session has %LOR, %EPH and %EPS".to_owned();
                self.send(id, &join_error(other, room_id, message));
            }
        }
    }

    /// The next client that waits for the document, or lagged and is through.
    pub(super) fn next_join(&mut self) -> Option<ClientId> {
        // Whoever asks again and again, and takes nothing, gets nothing more.
        let takes = |id: &ClientId| self.clients.get(id).is_none_or(|client| !client.is_full());
        let place = self.joins.iter().position(takes);
        place.and_then(|place| self.joins.remove(place)).or_else(|| {
            let through = |client: &Client| {
                client.has_document && client.lagging_since.is_some() && client.queued_frames == 0
            };
            self.clients.iter().find(|(_, client)| through(client)).map(|(id, _)| *id)
        })
    }

    /// The document as a client asked for it is here.
    pub(super) fn joined(&mut self, id: ClientId, update: Vec<u8>, version: Version) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let lagged = client.lagging_since.take().is_some() && client.has_document;
        client.has_document = true;
        client.version = version.clone();
        if !lagged {
            let extra = json!({
                "epoch": self.epoch,
                "base": {
                    "version": self.flushed.base.to_string(),
                    "hash": self.flushed.hash.to_string(),
                },
                "seq": self.turn,
                "role": role_word(client.role),
                "name": self.people[client.person as usize].name,
                "limits": {
                    "update_bytes": UPDATE_BYTES_MAX,
                    "document_bytes": DOCUMENT_BYTES_MAX,
                    "frames_per_s": FRAMES_PER_S,
                    "bytes_per_s": BYTES_PER_S,
                },
            });
            let extra = extra.to_string().into_bytes();
            self.join_ok(id, CrdtType::Loro, version.0, extra);
        }
        self.send_update(id, CrdtType::Loro, update);
    }

    fn join_ok(&mut self, id: ClientId, crdt: CrdtType, version: Vec<u8>, extra: Vec<u8>) {
        let permission = match self.clients.get(&id).map(|client| client.role) {
            Some(Role::Write) => Permission::Write,
            _ => Permission::Read,
        };
        let room_id = self.id.clone();
        let extra = Some(extra);
        self.send(id, &Message::JoinResponseOk { crdt, room_id, permission, version, extra });
    }

    fn assemble(&mut self, id: ClientId, assembly: Option<Assembly>) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if let Some(old) = std::mem::replace(&mut client.assembly, assembly) {
            self.ack(id, old.batch(), Status::FragmentTimeout);
        }
    }

    fn fragment(&mut self, id: ClientId, batch: BatchId, index: u64, fragment: Vec<u8>) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        // Fragments of what was given up are on their way for a while.
        let Some(assembly) = client.assembly.as_mut().filter(|a| a.batch() == batch) else {
            return;
        };
        match assembly.take(index, fragment) {
            Ok(None) => {}
            Ok(Some(update)) => {
                client.assembly = None;
                self.update(id, batch, vec![update]);
            }
            Err(status) => {
                client.assembly = None;
                self.ack(id, batch, status);
            }
        }
    }

    pub(super) fn give_up_fragments(&mut self, now_ms: u64) {
        let is_late = |client: &Client| client.assembly.as_ref().is_some_and(|a| a.is_late(now_ms));
        let late: Vec<_> =
            self.clients.iter().filter(|(_, client)| is_late(client)).map(|(id, _)| *id).collect();
        late.into_iter().for_each(|id| self.assemble(id, None));
    }

    fn update(&mut self, id: ClientId, batch: BatchId, mut updates: Vec<Vec<u8>>) {
        let Some(client) = self.clients.get(&id) else { return };
        // Nothing is in an empty one, and it has a price all the same.
        updates.retain(|update| !update.is_empty());
        let batch = Batch { client: id, person: client.person, id: batch, updates };
        let refused = if client.role == Role::Read {
            Some(Status::PermissionDenied)
        } else if batch.updates.iter().any(|update| update.len() > UPDATE_BYTES_MAX) {
            Some(Status::PayloadTooLarge)
        } else if self.inbox_bytes + batch.bytes() > INBOX_BYTES_MAX {
            Some(Status::RateLimited)
        } else if !client.has_document
            || self.settling
            || matches!(self.ending, Some(Ending::Asked | Ending::NotText | Ending::Renewed))
        {
            // It keeps what it wrote, and brings it to the next session.
            Some(Status::AppError)
        } else {
            None
        };
        if let Some(status) = refused {
            return self.ack(id, batch.id, status);
        }
        if self.inbox.is_empty() {
            self.inbox_since_ms = Some(self.now_ms);
        }
        self.inbox_bytes += batch.bytes();
        self.inbox.push_back(batch);
    }

    pub(super) fn ack(&mut self, id: ClientId, ref_id: BatchId, status: Status) {
        let room_id = self.id.clone();
        self.send(id, &Message::Ack { crdt: CrdtType::Loro, room_id, ref_id, status });
    }

    /// Asks a client to join again.
    pub(super) fn ask_to_rejoin(&mut self, id: ClientId, message: &str) {
        let (room_id, message) = (self.id.clone(), message.to_owned());
        let code = RoomErrorCode::RejoinSuggested;
        self.send(id, &Message::RoomError { crdt: CrdtType::Loro, room_id, code, message });
    }

    /// Sends an update of the document to all who have it, but for `author`, whose it is.
    pub(super) fn broadcast(&mut self, author: Option<ClientId>, update: Vec<u8>) {
        let frames = self.update_frames(CrdtType::Loro, update);
        let ids: Vec<_> = self.clients.keys().copied().collect();
        for id in ids {
            let Some(client) = self.clients.get_mut(&id) else { continue };
            if !client.has_document || client.lagging_since.is_some() {
                continue;
            }
            if client.is_full() {
                client.lagging_since = Some(self.now_ms);
                continue;
            }
            client.version = self.version.clone();
            if author != Some(id) {
                frames.iter().for_each(|frame| self.queue(id, frame.clone()));
            }
        }
    }

    fn pass_on_presence(&mut self, from: ClientId, entries: Vec<u8>) {
        let frames = self.update_frames(CrdtType::LoroEphemeralStore, entries);
        let ids: Vec<_> = self.clients.keys().copied().filter(|id| *id != from).collect();
        for id in ids {
            // The first thing that a slow client does without.
            let wants = self.clients.get(&id).is_some_and(|c| c.presence && c.keeps_up());
            if wants {
                frames.iter().for_each(|frame| self.queue(id, frame.clone()));
            }
        }
    }

    /// Tells everybody who listens how the session goes.
    pub(super) fn tell(&mut self, event: &serde_json::Value) {
        let bytes = event.to_string().into_bytes();
        let frames = self.update_frames(CrdtType::LoroEphemeralStorePersisted, bytes);
        let ids: Vec<_> = self.clients.keys().copied().collect();
        for id in ids {
            if self.clients.get(&id).is_some_and(|client| client.control && client.keeps_up()) {
                frames.iter().for_each(|frame| self.queue(id, frame.clone()));
            }
        }
    }

    fn tell_one(&mut self, id: ClientId, event: &serde_json::Value) {
        if self.clients.get(&id).is_some_and(|client| client.control) {
            let bytes = event.to_string().into_bytes();
            self.send_update(id, CrdtType::LoroEphemeralStorePersisted, bytes);
        }
    }

    /// Tells who is here, if that has changed; not after each of five hundred who come at once.
    pub(super) fn tell_people(&mut self, now_ms: u64) {
        if self.people_changed && now_ms.saturating_sub(self.people_told_ms) >= PEOPLE_MS {
            self.people_changed = false;
            self.people_told_ms = now_ms;
            let event = self.people_event();
            self.tell(&event);
        }
    }

    fn people_event(&self) -> serde_json::Value {
        let shown = |(id, client): (&ClientId, &Client)| {
            let peers = self.presence.peers_of(*id).map(|peer| peer.to_string());
            let person = &self.people[client.person as usize];
            json!({
                "user": person.user.to_string(),
                "device": person.device.to_string(),
                "name": person.name,
                "role": role_word(client.role),
                "here_ms": client.here_ms,
                "peers": peers.collect::<Vec<_>>(),
            })
        };
        let people: Vec<_> = self.clients.iter().take(PEOPLE_TOLD_MAX).map(shown).collect();
        json!({ "type": "people", "people": people, "count": self.clients.len() })
    }

    fn update_frames(&mut self, crdt: CrdtType, update: Vec<u8>) -> Vec<Frame> {
        self.batches += 1;
        frames::update(crdt, &self.id, update, BatchId(self.batches.to_be_bytes()))
    }

    fn send_update(&mut self, id: ClientId, crdt: CrdtType, update: Vec<u8>) {
        for frame in self.update_frames(crdt, update) {
            self.queue(id, frame);
        }
    }

    fn send(&mut self, id: ClientId, message: &Message) {
        self.queue(id, frames::encode(message));
    }

    fn queue(&mut self, id: ClientId, frame: Frame) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.queued_frames += 1;
            client.queued_bytes += frame.len();
            if client.is_full() {
                client.lagging_since.get_or_insert(self.now_ms);
            }
            self.act(Action::Send(id, frame));
        }
    }

    pub(super) fn sent(&mut self, id: ClientId, frames: usize, bytes: usize) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.queued_frames = client.queued_frames.saturating_sub(frames);
            client.queued_bytes = client.queued_bytes.saturating_sub(bytes);
            // Slow, but not stuck.
            if let Some(since) = &mut client.lagging_since {
                *since = self.now_ms;
            }
        }
    }
}

impl Client {
    /// An update is arriving in pieces.
    pub fn assembles(&self) -> bool {
        self.assembly.is_some()
    }

    /// So much waits that not even a word on what it does can be added.
    pub fn overflows(&self) -> bool {
        self.queued_frames >= 4 * OUTBOX_FRAMES_MAX || self.queued_bytes >= 4 * OUTBOX_BYTES_MAX
    }

    fn is_full(&self) -> bool {
        self.queued_frames >= OUTBOX_FRAMES_MAX || self.queued_bytes >= OUTBOX_BYTES_MAX
    }

    fn keeps_up(&self) -> bool {
        self.lagging_since.is_none()
            && self.queued_frames < OUTBOX_FRAMES_MAX / 4
            && self.queued_bytes < OUTBOX_BYTES_MAX / 4
    }
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::Read => "read",
        Role::Write => "write",
    }
}

fn join_error(crdt: CrdtType, room_id: String, message: String) -> Message {
    Message::JoinError {
        crdt,
        room_id,
        code: JoinErrorCode::Unknown,
        message,
        receiver_version: None,
        app_code: None,
    }
}

fn room_of(message: &Message) -> &String {
    match message {
        Message::JoinRequest { room_id, .. }
        | Message::JoinResponseOk { room_id, .. }
        | Message::JoinError { room_id, .. }
        | Message::DocUpdate { room_id, .. }
        | Message::DocUpdateFragmentHeader { room_id, .. }
        | Message::DocUpdateFragment { room_id, .. }
        | Message::RoomError { room_id, .. }
        | Message::Ack { room_id, .. }
        | Message::Leave { room_id, .. } => room_id,
    }
}
