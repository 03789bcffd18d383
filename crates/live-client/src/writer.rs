//! Somebody who types words that nobody else types, through every fall of the server.
//!
//! Invariants: a word is typed once, in one insertion, and never again under another edit; a word
//! counts as acknowledged only after the server said so (an Ack, or a version it has in a join);
//! what was not is sent again as the same edit, by the version that the server says it has.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use crucible_live::document::CONTAINER;
use crucible_live::frames::{BatchId, Status};
use loro::{ExportMode, LoroDoc, VersionVector};
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;

use crate::connection::{Connection, Heard, fresh_peer, refusal};
use crate::http::{Account, Session};

/// What all writers of a test know together.
#[derive(Debug, Default)]
pub struct Ledger {
    words: Mutex<Words>,
    acks: AtomicU64,
    changed: Notify,
}

/// Words by what is known of them.
#[derive(Debug, Default, Clone)]
pub struct Words {
    /// All that were typed.
    pub typed: Vec<String>,
    /// Those the server has said it has.
    pub acknowledged: Vec<String>,
    /// Acks that said no, by their status.
    pub refusals: HashMap<String, u64>,
    /// How often somebody joined.
    pub joins: u64,
}

/// Words that are not in a text as often as they should be.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Faults {
    /// Acknowledged and not there.
    pub lost: Vec<String>,
    /// There more than once.
    pub doubled: Vec<String>,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known now.
    pub fn words(&self) -> Words {
        self.lock().clone()
    }

    /// How many words were acknowledged so far.
    pub fn acks(&self) -> u64 {
        self.acks.load(Ordering::SeqCst)
    }

    /// Waits until so many words were acknowledged.
    pub async fn until_acks(&self, count: u64) {
        self.until(|ledger| ledger.acks() >= count).await;
    }

    /// Waits until so many joins have been.
    pub async fn until_joins(&self, count: u64) {
        self.until(|ledger| ledger.lock().joins >= count).await;
    }

    async fn until(&self, come: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if come(self) {
                return;
            }
            changed.await;
        }
    }

    fn acknowledge(&self, words: Vec<String>) {
        self.acks.fetch_add(words.len() as u64, Ordering::SeqCst);
        self.lock().acknowledged.extend(words);
        self.changed.notify_waiters();
    }
}

impl Words {
    /// Compares with a text that was read after these were known.
    pub fn faults_in(&self, text: &str) -> Faults {
        let mut found: HashMap<&str, u32> = HashMap::new();
        text.split_whitespace().for_each(|word| *found.entry(word).or_default() += 1);
        let count = |word: &String| found.get(word.as_str()).copied().unwrap_or(0);
        let of = |words: &[String], bad: &dyn Fn(u32) -> bool| {
            words.iter().filter(|word| bad(count(word))).cloned().collect()
        };
        Faults {
            lost: of(&self.acknowledged, &|count| count == 0),
            doubled: of(&self.typed, &|count| count > 1),
        }
    }
}

/// What a writer is told.
#[derive(Debug, Clone)]
pub struct Orders {
    /// Where the server is; `None` while it is down.
    pub server: watch::Receiver<Option<SocketAddr>>,
    /// No new words; the end once all were acknowledged.
    pub stop: watch::Receiver<bool>,
    /// Between two batches of typing.
    pub pace: Duration,
}

/// One person at one note.
pub struct Writer {
    name: String,
    token: String,
    session: Session,
    doc: LoroDoc,
    /// What came since the last word: each import into a document that is shown walks its graph.
    heard: Vec<Vec<u8>>,
    pending: Vec<(BatchId, Vec<String>)>,
    typed: u64,
    dice: u64,
    ledger: Arc<Ledger>,
}

impl Writer {
    /// A writer; their words begin with their name.
    pub fn new(name: &str, token: &str, session: Session, ledger: Arc<Ledger>) -> Self {
        let name = name.to_owned();
        let dice = name.bytes().fold(7, |dice: u64, byte| dice * 31 + u64::from(byte));
        let (token, doc, pending) = (token.to_owned(), LoroDoc::new(), Vec::new());
        Self { name, token, session, doc, heard: Vec::new(), pending, typed: 0, dice, ledger }
    }

    /// Types until told to stop and all was acknowledged.
    ///
    /// # Errors
    /// The session is gone, began anew, or refuses what is ours.
    pub async fn run(mut self, mut orders: Orders) -> Result<()> {
        loop {
            let address = *orders.server.wait_for(Option::is_some).await?;
            let address = address.context("it is up")?;
            let account = Account { address, token: self.token.clone() };
            let mut connection = match Connection::open(&account, &self.session.id).await {
                Ok(connection) => connection,
                Err(error) if refusal(&error) == Some(404) => {
                    return Err(error.context("the session is gone"));
                }
                // It fell again, or has just fallen: whoever kills it says so.
                Err(_) => {
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            match self.sit(&mut connection, &mut orders).await {
                Ok(()) => return Ok(()),
                Err(Broken::Fall) => tokio::task::yield_now().await,
                Err(Broken::Fault(error)) => return Err(error.context(self.name)),
            }
        }
    }

    /// One connection's time; `Ok` when everything is done.
    async fn sit(
        &mut self,
        connection: &mut Connection,
        orders: &mut Orders,
    ) -> Result<(), Broken> {
        self.take_in()?;
        self.doc.set_peer_id(fresh_peer()).map_err(anyhow::Error::from)?;
        connection.join(self.doc.oplog_vv().encode()).await.map_err(fall)?;
        let mut pace = tokio::time::interval(orders.pace);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut joined = None;
        let mut ready = false;
        loop {
            if ready && *orders.stop.borrow() && self.pending.is_empty() {
                return Ok(());
            }
            tokio::select! {
                heard = connection.next() => match heard.map_err(fall)? {
                    Heard::Joined(version, extra) => {
                        if extra["epoch"] != self.session.epoch.as_str() {
                            let was = &self.session.epoch;
                            let message = format!("another epoch: {} was {was}", extra["epoch"]);
                            return Err(Broken::Fault(anyhow::Error::msg(message)));
                        }
                        joined = Some(version);
                    }
                    Heard::Update(update) => {
                        self.heard.push(update);
                        // The first after a join is all that we lacked.
                        if let Some(version) = joined.take() {
                            self.take_in()?;
                            self.send_again(connection, &version).await?;
                            ready = true;
                            self.ledger.lock().joins += 1;
                            self.ledger.changed.notify_waiters();
                        }
                    }
                    Heard::Ack(batch, status) => {
                        if !self.answered(batch, status)? {
                            ready = false;
                            let version = self.doc.oplog_vv().encode();
                            connection.join(version).await.map_err(fall)?;
                        }
                    }
                    Heard::Rejoin(_) => {
                        ready = false;
                        connection.join(self.doc.oplog_vv().encode()).await.map_err(fall)?;
                    }
                    Heard::Other => {}
                },
                _ = pace.tick() => {
                    if ready && !*orders.stop.borrow() {
                        self.type_one(connection).await?;
                    }
                }
            }
        }
    }

    fn take_in(&mut self) -> Result<()> {
        let heard = std::mem::take(&mut self.heard);
        if heard.is_empty() {
            return Ok(());
        }
        let status = self.doc.import_batch(&heard)?;
        ensure!(status.pending.is_none(), "an update has a gap");
        Ok(())
    }

    async fn send_again(&mut self, connection: &mut Connection, has: &[u8]) -> Result<(), Broken> {
        let words: Vec<String> =
            std::mem::take(&mut self.pending).into_iter().flat_map(|(_, words)| words).collect();
        if words.is_empty() {
            return Ok(());
        }
        let has = VersionVector::decode(has).map_err(anyhow::Error::from)?;
        if has.includes_vv(&self.doc.oplog_vv()) {
            self.ledger.acknowledge(words);
            return Ok(());
        }
        let update = self.doc.export(ExportMode::updates(&has)).map_err(anyhow::Error::from)?;
        self.send(connection, update, words).await
    }

    async fn type_one(&mut self, connection: &mut Connection) -> Result<(), Broken> {
        self.take_in()?;
        self.typed += 1;
        let word = format!("{}n{}", self.name, self.typed);
        let text = self.doc.get_text(CONTAINER);
        let shown = text.to_string();
        let places: Vec<usize> = shown.match_indices('\n').map(|(at, _)| at + 1).collect();
        let place = places.get(self.below(places.len().max(1))).copied().unwrap_or(0);
        let before = self.doc.oplog_vv();
        text.insert_utf8(place, &format!("{word}\n")).map_err(anyhow::Error::from)?;
        self.doc.commit();
        self.ledger.lock().typed.push(word.clone());
        let update = self.doc.export(ExportMode::updates(&before)).map_err(anyhow::Error::from)?;
        self.send(connection, update, vec![word]).await
    }

    async fn send(
        &mut self,
        connection: &mut Connection,
        update: Vec<u8>,
        words: Vec<String>,
    ) -> Result<(), Broken> {
        // They are pending even if the connection falls over them.
        self.pending.push((BatchId([0; 8]), words));
        let batch = connection.update(update).await.map_err(fall)?;
        if let Some((pending, _)) = self.pending.last_mut() {
            *pending = batch;
        }
        Ok(())
    }

    /// Whether the answer was a yes.
    fn answered(&mut self, batch: BatchId, status: Status) -> Result<bool> {
        let Some(at) = self.pending.iter().position(|(pending, _)| *pending == batch) else {
            // Of before we joined again.
            return Ok(true);
        };
        if status == Status::Ok {
            let (_, words) = self.pending.remove(at);
            self.ledger.acknowledge(words);
            return Ok(true);
        }
        *self.ledger.lock().refusals.entry(format!("{status:?}")).or_default() += 1;
        ensure!(status != Status::PermissionDenied, "what is ours is refused");
        if status == Status::PayloadTooLarge {
            bail!("too large");
        }
        Ok(false)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.dice >> 33) as usize % bound
    }
}

/// Why a connection's time ended.
enum Broken {
    /// The connection is gone.
    Fall,
    /// Something that must not be.
    Fault(anyhow::Error),
}

impl From<anyhow::Error> for Broken {
    fn from(error: anyhow::Error) -> Self {
        Self::Fault(error)
    }
}

fn fall(_: anyhow::Error) -> Broken {
    Broken::Fall
}
