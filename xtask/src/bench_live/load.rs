//! People who type into one document, others who read, and how long each edit was on its way.
//!
//! Fan-out is the time from a writer's send until a reader received a frame that holds the edit,
//! seen without importing: by the ends of edits that an update says it has. Writers do not import
//! what others write. All of a load runs on one thread, so that the server has the other cores.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::side::{Came, Client, Ends, Setting, Side};

/// After the last edit, everything has this long to arrive.
const ARRIVES: Duration = Duration::from_secs(3);

/// Who types how fast, and how many read.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// What the table calls it.
    pub name: &'static str,
    /// All of them.
    pub clients: usize,
    /// Those who type.
    pub writers: usize,
    /// Characters each types in a second.
    pub per_s: u64,
    /// Whether they strike their keys at the same moments.
    pub pace: Pace,
    /// Fan-out's p99 may be this share of Hocuspocus'.
    pub p99_max: Option<f64>,
    /// So may processor time.
    pub cpu_max: Option<f64>,
}

/// How writers stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// All strike at once: the worst moment for whoever must carry it.
    InStep,
    /// Evenly spread over the time between two strikes of one.
    Apart,
}

/// What a load cost once.
#[derive(Debug, Clone, Default)]
pub struct Cost {
    /// From sent to received: the median, and what one in a hundred exceeds.
    pub fan_out: (Duration, Duration),
    /// From sent to the server's word that it has it, the same.
    pub ack: (Duration, Duration),
    /// Of the edits that were due at readers, those that came, in percent.
    pub delivered: f64,
    /// Processor time of the server.
    pub cpu: Duration,
    /// What of the server was in memory at the end.
    pub rss_kib: u64,
}

/// Ends of edits by peer, and when each was sent.
#[derive(Default)]
struct Board {
    sent: HashMap<u64, Vec<(u64, Instant)>>,
    fan_out: Vec<Duration>,
    acks: Vec<Duration>,
    /// Updates by their bytes: each reaches many.
    known: HashMap<Vec<u8>, Ends>,
}

/// Runs a load once, on a server of its own.
pub async fn measured<S: Side>(
    setting: &Setting,
    folder: &Path,
    load: &Load,
    typing: Duration,
) -> Result<Cost> {
    let server = S::start(setting, folder, 1).await?;
    let board = Rc::new(RefCell::new(Board::default()));
    let mut joined = Vec::new();
    for _ in 0..load.clients {
        joined.push(server.join(0).await?);
    }
    let before = server.cpu()?;
    let begun = Instant::now();
    let (over, ends) = watch::channel(false);
    let pace = Duration::from_micros(1_000_000 / load.per_s);
    let mut clients = Vec::new();
    for (no, client) in joined.into_iter().enumerate() {
        let first = match load.pace {
            Pace::InStep => begun,
            Pace::Apart => begun + pace.mul_f64(no as f64 / load.writers as f64),
        };
        let typing = (no < load.writers).then_some(Typing { first, pace, ends: begun + typing });
        let (board, ends) = (Rc::clone(&board), ends.clone());
        clients.push(tokio::task::spawn_local(sit(client, typing, board, ends)));
    }
    tokio::time::sleep(typing).await;
    let last = Instant::now() + ARRIVES;
    while Instant::now() < last && !board.borrow().all_came(load.clients) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (cpu, rss_kib) = (server.cpu()?.saturating_sub(before), server.rss_kib()?);
    over.send_replace(true);
    for client in clients {
        client.await??;
    }
    let mut board = board.borrow_mut();
    let due = board.due(load.clients);
    let delivered = 100.0 * board.fan_out.len() as f64 / due.max(1) as f64;
    let (fan_out, ack) = (median_and_worst(&mut board.fan_out), median_and_worst(&mut board.acks));
    Ok(Cost { fan_out, ack, delivered, cpu, rss_kib })
}

/// When somebody types.
struct Typing {
    first: Instant,
    pace: Duration,
    ends: Instant,
}

async fn sit<C: Client>(
    mut client: C,
    typing: Option<Typing>,
    board: Rc<RefCell<Board>>,
    mut over: watch::Receiver<bool>,
) -> Result<()> {
    let never = Instant::now() + Duration::from_secs(3_600);
    let (first, pace, ends) =
        typing.map_or((never, ARRIVES, never), |typing| (typing.first, typing.pace, typing.ends));
    let mut tick = tokio::time::interval_at(first.into(), pace);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen: HashMap<u64, u64> = HashMap::new();
    let mut unanswered = std::collections::VecDeque::new();
    let own = client.peer();
    loop {
        tokio::select! {
            _ = over.wait_for(|over| *over) => return Ok(()),
            came = client.next() => match came? {
                Came::Edits(edits) => board.borrow_mut().received::<C>(own, edits, &mut seen)?,
                Came::Acked(end) => {
                    let now = Instant::now();
                    while let Some((_, sent)) = unanswered.pop_front_if(|(sent, _)| *sent <= end) {
                        board.borrow_mut().acks.push(now - sent);
                    }
                }
                Came::Other => {}
            },
            _ = tick.tick() => {
                if Instant::now() < ends {
                    let end = client.type_one().await?;
                    let now = Instant::now();
                    board.borrow_mut().sent.entry(own).or_default().push((end, now));
                    unanswered.push_back((end, now));
                }
            }
        }
    }
}

impl Board {
    fn due(&self, clients: usize) -> usize {
        self.sent.values().map(Vec::len).sum::<usize>() * (clients - 1)
    }

    fn all_came(&self, clients: usize) -> bool {
        self.fan_out.len() >= self.due(clients)
    }

    fn received<C: Client>(
        &mut self,
        own: u64,
        edits: Vec<u8>,
        seen: &mut HashMap<u64, u64>,
    ) -> Result<()> {
        let now = Instant::now();
        let ends = match self.known.get(&edits) {
            Some(ends) => Rc::clone(ends),
            None => {
                let ends = C::ends(&edits)?;
                self.known.insert(edits, Rc::clone(&ends));
                ends
            }
        };
        for (peer, end) in ends.iter().filter(|(peer, _)| *peer != own) {
            let have = seen.entry(*peer).or_default();
            let Some(sent) = self.sent.get(peer) else { continue };
            let from = sent.partition_point(|(edit, _)| edit <= have);
            let to = sent.partition_point(|(edit, _)| edit <= end);
            self.fan_out.extend(sent[from..to.max(from)].iter().map(|(_, sent)| now - *sent));
            *have = (*have).max(*end);
        }
        Ok(())
    }
}

/// The median, and the time that one in a hundred exceeds.
fn median_and_worst(times: &mut [Duration]) -> (Duration, Duration) {
    times.sort_unstable();
    let at = |percent: usize| {
        let place = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(place).copied().unwrap_or_default()
    };
    (at(50), at(99))
}
