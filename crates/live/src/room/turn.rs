//! A turn: the updates that wait are imported together, journaled in one write, and told in one
//! frame.

use super::{Busy, ClientId, Closing, PersonNo, Record, Room, Then, Write};
use crate::documents::{Ask, Brought, Verdict, Version, Why};
use crate::frames::Status;
use crate::limits::{GATHER_MS, JOURNAL_BYTES_MAX, LOOK_SHARE, TURN_UPDATES_MAX, UNLOOKED_MS};

use super::clients::Batch;

/// Batches of one turn, and what became of them.
#[derive(Debug)]
pub struct Turn {
    batches: Vec<Batch>,
    statuses: Vec<Status>,
    /// All that was new, as one update, and the document's version with it.
    merged: Vec<u8>,
    version: Version,
    /// Who wrote, in the order they did.
    editors: Vec<PersonNo>,
    /// The only connection that wrote, if there is only one.
    author: Option<ClientId>,
}

impl Turn {
    /// Which batch the update at this place of the turn is in.
    fn batch_of(&self, place: usize) -> usize {
        let ends = self.batches.iter().scan(0, |end, batch| {
            *end += batch.updates.len();
            Some(*end)
        });
        ends.take_while(|end| *end <= place).count()
    }

    pub fn fail_all(&mut self) {
        self.statuses.iter_mut().filter(|s| **s == Status::Ok).for_each(|s| *s = Status::AppError);
    }
}

impl Room {
    /// Whether the updates that wait have waited for others long enough.
    pub(super) fn inbox_is_gathered(&self, now_ms: u64) -> bool {
        // A clock that was put back, or stands, keeps nobody waiting: a tick ends it too.
        let waited = |since: u64| now_ms.abs_diff(since) >= GATHER_MS;
        !self.inbox.is_empty() && self.inbox_since_ms.is_none_or(waited)
    }

    pub(super) fn begin_turn(&mut self, now_ms: u64) {
        let mut batches = Vec::new();
        let mut count = 0;
        while let Some(batch) = self.inbox.front() {
            if count > 0 && count + batch.updates.len() > TURN_UPDATES_MAX {
                break;
            }
            count += batch.updates.len();
            self.inbox_bytes -= batch.bytes();
            batches.extend(self.inbox.pop_front());
        }
        let updates: Vec<_> = batches
            .iter()
            .flat_map(|batch| batch.updates.iter().map(|update| self.brought(batch, update)))
            .collect();
        let look = now_ms >= self.look_from_ms || self.look_is_due(now_ms);
        let turn = Turn {
            statuses: vec![Status::Ok; batches.len()],
            batches,
            merged: Vec::new(),
            version: self.version.clone(),
            editors: Vec::new(),
            author: None,
        };
        self.ask(Busy::Importing(turn), Ask::Import(updates, look));
    }

    /// Whether taken updates have gone without a look for too long.
    pub(super) fn look_is_due(&self, now_ms: u64) -> bool {
        self.unlooked && now_ms.saturating_sub(self.looked_ms) >= UNLOOKED_MS
    }

    pub(super) fn journal_is_long(&self) -> bool {
        self.journal_bytes > JOURNAL_BYTES_MAX
    }

    pub(super) fn imported(
        &mut self,
        now_ms: u64,
        mut turn: Turn,
        verdicts: Vec<Verdict>,
        merged: Vec<u8>,
        version: Version,
        look_us: u64,
    ) {
        if look_us > 0 {
            self.unlooked = false;
            self.looked_ms = now_ms;
            self.look_from_ms = now_ms + look_us * LOOK_SHARE / 1_000;
        } else {
            self.unlooked = true;
        }
        let mut write = Write::default();
        let mut records = Vec::new();
        let mut writers = Vec::new();
        for (place, verdict) in verdicts.into_iter().enumerate() {
            let at = turn.batch_of(place);
            let within = place - places_before(&turn.batches, at);
            let batch = &mut turn.batches[at];
            match verdict {
                Verdict::Taken(peers) => {
                    // Its place stays: the others keep theirs.
                    let update = std::mem::take(&mut batch.updates[within]);
                    records.push(Record { person: Some(batch.person), update });
                    write.authors.extend(peers.into_iter().map(|peer| (peer, batch.person)));
                    turn.editors.retain(|person| *person != batch.person);
                    turn.editors.push(batch.person);
                    writers.push(batch.client);
                }
                Verdict::Known => {}
                Verdict::Refused(why) => {
                    let (client, status) = (batch.client, status(why));
                    turn.statuses[at] = status;
                    match why {
                        Why::Broke => self.close(client, Closing::Broke),
                        Why::Gap => {
                            let message = "the update follows edits that are not here; join again";
                            self.ask_to_rejoin(client, message);
                        }
                        Why::Invalid | Why::TooLarge | Why::Foreign => {}
                    }
                }
            }
        }
        if records.is_empty() {
            return self.acknowledge(&turn);
        }
        writers.dedup();
        turn.author = writers.first().copied().filter(|_| writers.len() == 1);
        turn.merged = merged;
        turn.version = version;
        self.journal_bytes += records.iter().map(|record| record.update.len()).sum::<usize>();
        write.turn = Some((self.turn + 1, records));
        self.write(Then::Tell(turn), write);
    }

    /// The turn is durable: everybody hears of it, and its authors that it is.
    pub(super) fn tell_turn(&mut self, now_ms: u64, mut turn: Turn) {
        self.turn += 1;
        self.version = turn.version.clone();
        self.last_edit_ms = now_ms;
        self.unsaved = Some((self.unsaved.map_or(now_ms, |(first, _)| first), now_ms));
        for person in &turn.editors {
            self.editors.retain(|editor| editor != person);
            self.editors.push(*person);
        }
        let merged = std::mem::take(&mut turn.merged);
        self.broadcast(turn.author, merged);
        self.acknowledge(&turn);
    }

    pub(super) fn acknowledge(&mut self, turn: &Turn) {
        for (batch, status) in turn.batches.iter().zip(&turn.statuses) {
            self.ack(batch.client, batch.id, *status);
        }
    }

    /// The turn without the updates that ended the process; whoever sent them goes.
    pub(super) fn without(
        &mut self,
        mut turn: Turn,
        updates: Vec<Brought>,
        killers: &[usize],
    ) -> (Turn, Vec<Brought>) {
        let mut dead: Vec<usize> = killers.iter().map(|place| turn.batch_of(*place)).collect();
        dead.sort_unstable();
        dead.dedup();
        let mut left = Vec::new();
        for (place, brought) in updates.into_iter().enumerate() {
            if dead.binary_search(&turn.batch_of(place)).is_err() {
                left.push(brought);
            }
        }
        for at in dead.into_iter().rev() {
            let client = turn.batches.remove(at).client;
            turn.statuses.remove(at);
            self.close(client, Closing::Broke);
        }
        (turn, left)
    }
}

fn places_before(batches: &[Batch], at: usize) -> usize {
    batches[..at].iter().map(|batch| batch.updates.len()).sum()
}

fn status(why: Why) -> Status {
    match why {
        Why::Invalid | Why::Gap | Why::Broke => Status::InvalidUpdate,
        Why::TooLarge => Status::PayloadTooLarge,
        Why::Foreign => Status::PermissionDenied,
    }
}
