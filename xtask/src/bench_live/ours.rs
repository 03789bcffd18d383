//! The real `cru`, and clients of its sessions.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use crucible_live_client::connection::{BatchId, Connection, Heard, fresh_peer};
use crucible_live_client::http::{Account, Session};
use crucible_live_client::running::{Place, Running};
use loro::{ExportMode, LoroDoc, VersionVector};

use super::side::{Came, Client, Ends, Setting, Side, Version};

/// The only container of a session's document.
const CONTAINER: &str = "text";
/// How often a thing is asked for that is refused, 50 ms apart.
const TRIES_MAX: usize = 200;

/// `cru up` on a vault.
pub struct Cru {
    running: Running,
    place: Place,
    account: Account,
}

impl Side for Cru {
    const NAME: &'static str = "cru";
    type Client = Page;

    async fn start(setting: &Setting, folder: &Path, notes: usize) -> Result<Self> {
        let place = Place::below(folder, &setting.cru);
        std::fs::create_dir_all(&place.vault)?;
        for note in 0..notes {
            std::fs::write(place.vault.join(format!("note-{note}.md")), "# Note\n")?;
        }
        let running = place.start(0)?;
        let device = "c0ffee00".repeat(8);
        let account = Account::pair(running.address, &running.code, &device).await?;
        Ok(Self { running, place, account })
    }

    async fn join(&self, note: usize) -> Result<Page> {
        let session = self.open(note).await?;
        let connection = patiently(async || Connection::open(&self.account, &session.id).await);
        let connection = Some(connection.await?);
        let doc = LoroDoc::new();
        let account = self.account.clone();
        let mut page = Page { account, session, connection, doc, typed: 0, sent: VecDeque::new() };
        page.greet().await?;
        Ok(page)
    }

    fn pids(&self) -> Vec<u32> {
        [self.running.pid()].into_iter().chain(self.running.documents()).collect()
    }

    async fn fall(self) -> Result<Self> {
        let Self { running, place, mut account } = self;
        running.kill(true)?;
        let running = place.start(0)?;
        account.address = running.address;
        Ok(Self { running, place, account })
    }
}

impl Cru {
    /// Opens the session of a note; nobody is in it by that.
    pub async fn open(&self, note: usize) -> Result<Session> {
        let path = format!("note-{note}.md");
        patiently(async || self.account.open("vault", &path).await).await
    }
}

/// A device may ask so often; then it is told to wait.
async fn patiently<T>(ask: impl AsyncFn() -> Result<T>) -> Result<T> {
    for _ in 0..TRIES_MAX {
        if let Ok(done) = ask().await {
            return Ok(done);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ask().await
}

/// A page that has a note open.
pub struct Page {
    account: Account,
    session: Session,
    connection: Option<Connection>,
    doc: LoroDoc,
    typed: usize,
    /// Ends of own edits without an answer, by their batch.
    sent: VecDeque<(BatchId, u64)>,
}

impl Page {
    async fn greet(&mut self) -> Result<()> {
        let connection = self.connection.as_mut().context("it has just connected")?;
        let known = self.doc.oplog_vv();
        let version = if known.is_empty() { Vec::new() } else { known.encode() };
        connection.join(version).await?;
        let mut has = None;
        loop {
            match connection.next().await? {
                Heard::Joined(version, _) => has = Some(version),
                // The first after a join is all that was missed.
                Heard::Update(update) => {
                    self.doc.import(&update)?;
                    let Some(has) = has.take() else { continue };
                    return self.send_unsent(&has).await;
                }
                Heard::Rejoin(why) => bail!("told to join again: {why}"),
                Heard::Ack(..) | Heard::Other => {}
            }
        }
    }

    async fn send_unsent(&mut self, has: &[u8]) -> Result<()> {
        let has =
            if has.is_empty() { VersionVector::default() } else { VersionVector::decode(has)? };
        let here = self.doc.oplog_vv();
        if has.includes_vv(&here) {
            return Ok(());
        }
        let update = self.doc.export(ExportMode::updates(&has))?;
        let end = end_of(&here, self.peer());
        let connection = self.connection.as_mut().context("it has just connected")?;
        self.sent.push_back((connection.update(update).await?, end));
        Ok(())
    }
}

fn end_of(version: &VersionVector, peer: u64) -> u64 {
    version.get(&peer).map_or(0, |end| u64::from(end.unsigned_abs()))
}

impl Client for Page {
    fn peer(&self) -> u64 {
        self.doc.peer_id()
    }

    async fn type_one(&mut self) -> Result<u64> {
        let before = self.doc.oplog_vv();
        self.doc.get_text(CONTAINER).insert(self.typed, "x")?;
        self.doc.commit();
        self.typed += 1;
        let end = end_of(&self.doc.oplog_vv(), self.peer());
        if let Some(connection) = &mut self.connection {
            let update = self.doc.export(ExportMode::updates(&before))?;
            self.sent.push_back((connection.update(update).await?, end));
        }
        Ok(end)
    }

    async fn next(&mut self) -> Result<Came> {
        let Some(connection) = &mut self.connection else { return std::future::pending().await };
        Ok(match connection.next().await? {
            Heard::Update(update) => Came::Edits(update),
            Heard::Ack(batch, status) => {
                ensure!(status as u8 == 0, "an edit was refused: {status:?}");
                let place = self.sent.iter().position(|(sent, _)| *sent == batch);
                match place.and_then(|place| self.sent.remove(place)) {
                    Some((_, end)) => Came::Acked(end),
                    None => Came::Other,
                }
            }
            Heard::Rejoin(why) => bail!("told to join again: {why}"),
            Heard::Joined(..) | Heard::Other => Came::Other,
        })
    }

    fn ends(edits: &[u8]) -> Result<Ends> {
        let meta = LoroDoc::decode_import_blob_meta(edits, false)?;
        let ends = meta.partial_end_vv.iter();
        Ok(ends.map(|(peer, end)| (*peer, u64::from(end.unsigned_abs()))).collect())
    }

    fn take_in(&mut self, edits: Vec<Vec<u8>>) -> Result<()> {
        if !edits.is_empty() {
            let status = self.doc.import_batch(&edits)?;
            ensure!(status.pending.is_none(), "an update has a gap");
        }
        Ok(())
    }

    fn version(&self) -> Version {
        let version = self.doc.oplog_vv();
        version.iter().map(|(peer, end)| (*peer, u64::from(end.unsigned_abs()))).collect()
    }

    fn text(&self) -> String {
        self.doc.get_text(CONTAINER).to_string()
    }

    fn cut(&mut self) {
        self.connection = None;
        self.sent.clear();
    }

    async fn join_again(&mut self) -> Result<()> {
        // Every connection writes under a name of its own.
        self.doc.set_peer_id(fresh_peer())?;
        self.connection = Some(Connection::open(&self.account, &self.session.id).await?);
        self.greet().await
    }

    fn patience(tries: u32, dice: f64) -> Duration {
        // web/app/live/client.js: BACKOFF_MS, and the dice in `retry`.
        let most = (200.0 * f64::from(tries).exp2()).min(8_000.0);
        Duration::from_secs_f64(most * (0.6 + 0.4 * dice) / 1e3)
    }
}
