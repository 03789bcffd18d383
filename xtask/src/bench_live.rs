//! `cargo xtask bench-live`: loads on live sessions of the real `cru`, and what each cost.
//!
//! Fan-out is the time from a writer's send until a reader received a frame that holds the edit,
//! seen without importing: by the versions that an update says it leads to. Writers do not import
//! what others write. The load runs on one thread, so that the server has the other cores.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use crucible_live_client::connection::{Connection, Heard};
use crucible_live_client::http::{Account, Session};
use crucible_live_client::running::{Place, Running};
use loro::{ExportMode, LoroDoc};
use tokio::task::LocalSet;
use tokio::time::MissedTickBehavior;

use crate::bench::measure::process_cpu;

/// What `cargo xtask bench-live` can be told.
#[derive(Parser)]
pub struct Args {
    /// A `cru` that is already built, in release.
    #[arg(long, value_name = "FILE")]
    cru: PathBuf,
    /// How long each load types, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Only the loads with this in their name.
    #[arg(long)]
    only: Option<String>,
}

struct Load {
    name: &'static str,
    clients: usize,
    writers: usize,
    per_s: u64,
}

const LOADS: &[Load] = &[
    Load { name: "50 clients, 10 writers × 10/s", clients: 50, writers: 10, per_s: 10 },
    Load { name: "20 writers × 50/s", clients: 20, writers: 20, per_s: 50 },
    Load { name: "100 clients, 5 writers × 20/s", clients: 100, writers: 5, per_s: 20 },
    Load { name: "500 clients, 2 writers × 5/s", clients: 500, writers: 2, per_s: 5 },
];
const IDLE_ROOMS: usize = 1_000;

/// Ends of edits by peer, and when each was sent.
#[derive(Default)]
struct Board {
    sent: HashMap<u64, Vec<(i32, Instant)>>,
    fan_out: Vec<Duration>,
    acks: Vec<Duration>,
    /// Updates by their bytes: each reaches many.
    known: HashMap<Vec<u8>, Rc<[(u64, i32)]>>,
    bytes: u64,
}

/// Measures and prints a table.
pub fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("| load | fan-out p50 | p99 | delivered | Ack p50 | p99 | CPU | RSS |");
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    let wanted = |name: &str| args.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    for load in LOADS.iter().filter(|load| wanted(load.name)) {
        LocalSet::new().block_on(&runtime, measured(args, load))?;
    }
    if wanted("idle rooms") {
        runtime.block_on(idle(args))?;
    }
    Ok(())
}

struct Scene {
    running: Running,
    account: Account,
    _folder: tempfile::TempDir,
}

async fn scene(args: &Args, notes: usize) -> Result<Scene> {
    let folder = tempfile::Builder::new().prefix("cru-bench-live-").tempdir()?;
    let place = Place::below(folder.path(), &args.cru);
    std::fs::create_dir_all(&place.vault)?;
    for note in 0..notes {
        std::fs::write(place.vault.join(format!("note-{note}.md")), "# Note\n")?;
    }
    let running = place.start(0)?;
    let device = "c0ffee00".repeat(8);
    let account = Account::pair(running.address, &running.code, &device).await?;
    Ok(Scene { running, account, _folder: folder })
}

impl Scene {
    fn cpu(&self) -> Result<Duration> {
        let documents = self.running.documents().map(process_cpu).transpose()?;
        Ok(process_cpu(self.running.pid())? + documents.unwrap_or_default())
    }

    fn rss_kib(&self) -> Result<u64> {
        let documents = self.running.documents().map(rss_kib).transpose()?;
        Ok(rss_kib(self.running.pid())? + documents.unwrap_or(0))
    }
}

async fn measured(args: &Args, load: &Load) -> Result<()> {
    let scene = scene(args, 1).await?;
    let session = scene.account.open("vault", "note-0.md").await?;
    let board = Rc::new(RefCell::new(Board::default()));
    let mut connections = Vec::new();
    for _ in 0..load.clients {
        connections.push(joined(&scene.account, &session).await?);
    }
    let before = scene.cpu()?;
    let typing = Duration::from_secs(args.seconds);
    let mut clients = Vec::new();
    for (no, (connection, doc)) in connections.into_iter().enumerate() {
        let pace = (no < load.writers).then(|| Duration::from_millis(1_000 / load.per_s));
        clients.push(tokio::task::spawn_local(client(
            connection,
            doc,
            pace,
            typing,
            Rc::clone(&board),
        )));
    }
    for client in clients {
        client.await??;
    }
    let cpu = scene.cpu()?.saturating_sub(before);
    let rss = scene.rss_kib()?;
    let mut board = board.borrow_mut();
    let edits: usize = board.sent.values().map(Vec::len).sum();
    let due = edits * (load.clients - 1);
    let delivered = 100.0 * board.fan_out.len() as f64 / due.max(1) as f64;
    let Board { fan_out, acks, .. } = &mut *board;
    println!(
        "| {} | {} | {} | {delivered:.1} % | {} | {} | {} ms | {:.0} MB |",
        load.name,
        ms(fan_out, 50),
        ms(fan_out, 99),
        ms(acks, 50),
        ms(acks, 99),
        cpu.as_millis(),
        rss as f64 / 1024.0,
    );
    Ok(())
}

async fn joined(account: &Account, session: &Session) -> Result<(Connection, LoroDoc)> {
    let mut connection = Connection::open(account, &session.id).await?;
    connection.join(Vec::new()).await?;
    loop {
        if let Heard::Update(update) = connection.next().await? {
            let doc = LoroDoc::new();
            doc.import(&update)?;
            return Ok((connection, doc));
        }
    }
}

async fn client(
    mut connection: Connection,
    doc: LoroDoc,
    pace: Option<Duration>,
    typing: Duration,
    board: Rc<RefCell<Board>>,
) -> Result<()> {
    let peer = doc.peer_id();
    let ends = Instant::now() + typing;
    // After the last edit, everything has this long to arrive.
    let over = ends + Duration::from_secs(2);
    let mut tick = tokio::time::interval(pace.unwrap_or(typing * 2));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen: HashMap<u64, i32> = HashMap::new();
    let mut unacknowledged = HashMap::new();
    let mut at = 0;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(over.into()) => break,
            heard = connection.next() => match heard? {
                Heard::Update(update) => {
                    board.borrow_mut().received(peer, update, &mut seen)?;
                }
                Heard::Ack(batch, status) => {
                    ensure!(status as u8 == 0, "an edit was refused: {status:?}");
                    if let Some(sent) = unacknowledged.remove(&batch) {
                        board.borrow_mut().acks.push(Instant::elapsed(&sent));
                    }
                }
                Heard::Joined(..) | Heard::Rejoin(_) | Heard::Other => {}
            },
            _ = tick.tick(), if pace.is_some() && Instant::now() < ends => {
                let before = doc.oplog_vv();
                doc.get_text("text").insert(at, "x")?;
                at += 1;
                doc.commit();
                let update = doc.export(ExportMode::updates(&before))?;
                let end = doc.oplog_vv().get(&peer).copied().context("it has just written")?;
                let now = Instant::now();
                board.borrow_mut().sent.entry(peer).or_default().push((end, now));
                unacknowledged.insert(connection.update(update).await?, now);
            }
        }
    }
    board.borrow_mut().bytes += connection.sent_bytes + connection.received_bytes;
    Ok(())
}

impl Board {
    fn received(&mut self, own: u64, update: Vec<u8>, seen: &mut HashMap<u64, i32>) -> Result<()> {
        let now = Instant::now();
        let ends = match self.known.get(&update) {
            Some(ends) => Rc::clone(ends),
            None => {
                let meta = LoroDoc::decode_import_blob_meta(&update, false)?;
                let ends: Rc<[_]> =
                    meta.partial_end_vv.iter().map(|(peer, end)| (*peer, *end)).collect();
                self.known.insert(update, Rc::clone(&ends));
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

async fn idle(args: &Args) -> Result<()> {
    let scene = scene(args, IDLE_ROOMS).await?;
    for note in 0..IDLE_ROOMS {
        let path = format!("note-{note}.md");
        // A device may ask so often; then it is told to wait.
        while scene.account.open("vault", &path).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    println!(
        "| {IDLE_ROOMS} idle rooms | | | | | | | {:.0} MB |",
        scene.rss_kib()? as f64 / 1024.0,
    );
    Ok(())
}

fn ms(times: &mut [Duration], percent: usize) -> String {
    times.sort_unstable();
    let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(at).map_or_else(String::new, |time| format!("{:.1} ms", time.as_secs_f64() * 1e3))
}

fn rss_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(number.context("no VmRSS line")?.trim().parse()?)
}
