//! Checkpoints, edits from outside, and the end: where a session and Layer 1 meet.

use crucible_core::hash::ContentHash;
use crucible_core::id::VersionId;

use super::{
    Action, Busy, Content, Ending, Flushed, Head, Intent, Person, PersonNo, Record, Room, Then,
    Write, text_hash,
};
use crate::documents::{Ask, Version};
use crate::limits::{CHECKPOINT_MS, CHECKPOINT_SHARE, DISBELIEF_MS, IDLE_MS, LEFT_MS, QUIET_MS};

/// A checkpoint on its way.
#[derive(Debug)]
pub struct Saving {
    intent: Intent,
    text: String,
    editors: Vec<PersonNo>,
}

impl Saving {
    pub fn intent(&self) -> &Intent {
        &self.intent
    }

    pub fn action(&self, people: &[Person]) -> Action {
        let person = |no: &PersonNo| people[*no as usize].clone();
        let (last, others) = self.editors.split_last().expect("somebody wrote what is saved");
        Action::Save {
            base: self.intent.base,
            text: self.text.clone(),
            editor: person(last),
            others: others.iter().map(person).collect(),
        }
    }
}

/// A head of the note that the document does not have yet.
#[derive(Debug)]
pub struct Outside {
    head: Head,
    since_ms: u64,
}

impl Outside {
    /// When it is believed at the latest, even if it says that the file is empty.
    pub fn believed_from_ms(&self) -> u64 {
        self.since_ms + DISBELIEF_MS
    }

    /// Who made it.
    pub fn by(&self) -> &str {
        &self.head.by
    }
}

impl Room {
    pub(super) fn checkpoint_is_due(&self, now_ms: u64) -> bool {
        let Some((first, last)) = self.unsaved else { return false };
        if self.saving.is_some() || !self.may_try(now_ms) || self.outside.is_some() {
            return false;
        }
        let quiet = now_ms.saturating_sub(last) >= QUIET_MS;
        let long = now_ms.saturating_sub(first) >= self.checkpoint_ms();
        quiet || long || self.clients.is_empty() || self.ending.is_some() || self.settling
    }

    /// How long the oldest edit waits at most: longer where the last checkpoint took long.
    pub(super) fn checkpoint_ms(&self) -> u64 {
        (self.save_took_ms * CHECKPOINT_SHARE).clamp(CHECKPOINT_MS.0, CHECKPOINT_MS.1)
    }

    /// The text was read: store it, if Layer 1 has another one.
    pub(super) fn read(&mut self, now_ms: u64, text: &str, version: Version) {
        let checkpoint = self.checkpoint_is_due(now_ms) || self.ending == Some(Ending::Renewed);
        if !checkpoint || self.saving.is_some() {
            return;
        }
        let hash = text_hash(text);
        if hash == self.flushed.hash {
            self.unsaved = None;
            self.editors.clear();
            self.flushed_unwritten = false;
            let flushed = Flushed { at: version, turn: self.turn, ..self.flushed.clone() };
            let write = Write { flushed: Some(flushed.clone()), ..Write::default() };
            return self.write(Then::Flushed(flushed), write);
        }
        if self.editors.is_empty() {
            // Only edits from outside are new, and each of them is in Layer 1 as it came.
            self.unsaved = None;
            return;
        }
        let file = self.ends.restore(text);
        let intent = Intent {
            base: self.flushed.base,
            stored: ContentHash::of_text(&file),
            hash,
            at: version,
            turn: self.turn,
        };
        let write = Write { intent: Some(intent.clone()), ..Write::default() };
        let editors = std::mem::take(&mut self.editors);
        self.unsaved = None;
        self.save_begun_ms = now_ms;
        self.write(Then::Save(Saving { intent, text: file, editors }), write);
    }

    pub(super) fn saved(&mut self, now_ms: u64, version: VersionId, head: Head) {
        let Some(Saving { intent, .. }) = self.saving.take() else { return };
        self.save_took_ms = now_ms.saturating_sub(self.save_begun_ms);
        self.retry = None;
        let told =
            serde_json::json!({ "type": "saved", "version": version.to_string(), "ms": now_ms });
        self.tell(&told);
        self.flush(Flushed { base: version, hash: intent.hash, at: intent.at, turn: intent.turn });
        // Another one where Layer 1 merged ours with what came meanwhile.
        self.came_from_outside(now_ms, head);
    }

    /// Remembers what Layer 1 has; durably with the next write.
    fn flush(&mut self, flushed: Flushed) {
        self.flushed = flushed;
        self.flushed_unwritten = true;
    }

    pub(super) fn save_failed(&mut self, now_ms: u64, why: &str) {
        let Some(saving) = self.saving.take() else { return };
        self.unsave(saving);
        self.wait(now_ms);
        self.tell(&serde_json::json!({ "type": "unsaved", "why": why }));
    }

    /// The checkpoint came to nothing: whoever wrote it is still to be named, before those who
    /// wrote since.
    pub(super) fn unsave(&mut self, saving: Saving) {
        let mut editors = saving.editors;
        editors.retain(|person| !self.editors.contains(person));
        editors.append(&mut self.editors);
        self.editors = editors;
        let last = self.unsaved.map_or(self.now_ms, |(_, last)| last);
        self.unsaved = Some((self.now_ms, last));
    }

    pub(super) fn came_from_outside(&mut self, now_ms: u64, head: Head) {
        if head.version == self.flushed.base && self.saving.is_none() {
            self.outside = None;
            return;
        }
        // The same head again is not a reason to wait longer for it.
        let same = self.outside.as_ref().filter(|outside| outside.head.version == head.version);
        let since_ms = same.map_or(now_ms, |outside| outside.since_ms);
        self.outside = Some(Outside { head, since_ms });
    }

    /// The head from outside, once it is to be believed.
    pub(super) fn believed(&mut self, now_ms: u64) -> Option<Outside> {
        if self.saving.is_some() || !self.may_try(now_ms) {
            return None;
        }
        let outside = self.outside.as_ref()?;
        let emptied = match &outside.head.content {
            Content::Text(text) => text.is_empty(),
            Content::Deleted | Content::NotText => true,
        };
        let waited = now_ms.saturating_sub(outside.since_ms) >= DISBELIEF_MS;
        if emptied && !waited && self.flushed.hash != text_hash("") {
            return None;
        }
        self.outside.take()
    }

    pub(super) fn bring_in(&mut self, outside: Outside) {
        if outside.head.version == self.flushed.base {
            return;
        }
        let text = match &outside.head.content {
            Content::Text(text) => text.clone(),
            Content::Deleted => return self.deleted(outside.head.version),
            // What was typed goes beside it; which of the two stands is for Layer 1 to say.
            Content::NotText => return self.end(Ending::NotText),
        };
        let text = self.take_ends(&text);
        let hash = text_hash(&text);
        if hash == self.flushed.hash {
            return self.flush(Flushed { base: outside.head.version, ..self.flushed.clone() });
        }
        let ask = Ask::EditAt(vec![self.flushed.at.clone()], text);
        self.ask(Busy::Editing(outside), ask);
    }

    /// Deleted elsewhere: the end, unless somebody has written since; then the note comes back.
    fn deleted(&mut self, version: VersionId) {
        // No text has this hash: the next checkpoint is one, whatever is in it.
        let hash = ContentHash::of_blob(b"\0deleted");
        self.flush(Flushed { base: version, hash, ..self.flushed.clone() });
        if self.unsaved.is_none() && self.inbox.is_empty() {
            self.end(Ending::Deleted);
        }
    }

    /// The head is in the document; not yet in the journal.
    pub(super) fn edited(
        &mut self,
        outside: Outside,
        update: Vec<u8>,
        at: Version,
        version: Version,
    ) {
        let text = crate::line_ends::lf(outside.head.content.text().unwrap_or_default());
        let base = outside.head.version;
        let flushed = Flushed { base, hash: text_hash(&text), at, turn: self.flushed.turn };
        let record = Record { person: None, update: update.clone() };
        self.journal_bytes += update.len();
        self.flushed_unwritten = false;
        let write = Write {
            turn: Some((self.turn + 1, vec![record])),
            flushed: Some(flushed.clone()),
            ..Write::default()
        };
        self.write(Then::TellOutside(outside, flushed, update, version), write);
    }

    pub(super) fn end(&mut self, why: Ending) {
        // What is decided for good is not weakened by what could be taken back.
        if self.ending.is_none_or(|ending| ending == Ending::Left) {
            self.ending = Some(why);
            self.tell(&serde_json::json!({ "type": "closing", "why": why.word() }));
        }
    }

    pub(super) fn end_in_time(&mut self, now_ms: u64) {
        let left = self.empty_since.is_some_and(|since| now_ms.saturating_sub(since) >= LEFT_MS);
        if left {
            self.end(Ending::Left);
        }
        if now_ms.saturating_sub(self.last_edit_ms) >= IDLE_MS {
            self.end(Ending::Asked);
        }
    }

    /// Whether Layer 1 has everything, and the end may come.
    pub(super) fn may_end(&self, now_ms: u64) -> bool {
        let done = self.unsaved.is_none()
            && self.saving.is_none()
            && self.outside.is_none()
            && self.inbox.is_empty();
        self.ending.is_some() && done && self.may_try(now_ms)
    }
}

impl Ending {
    fn word(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Asked => "asked",
            Self::Deleted => "deleted",
            Self::NotText => "not_text",
            Self::Renewed => "renewed",
        }
    }
}
