//! What a scan of unchanged files costs, beside a bare walk that stats each file.
//!
//! `cargo run --release -p crucible-vault --example scan_cost -- FOLDER [THREADS]`

#![allow(clippy::print_stdout, reason = "an example prints its result")]

use std::collections::HashMap;
use std::error::Error;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crucible_vault::fs::FileSystem;
use crucible_vault::real_fs::RealFs;
use crucible_vault::scan::{Cached, Request, Root, Scan, scan, scan_parallel};

const ROUNDS: usize = 15;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let folder = PathBuf::from(args.next().ok_or("usage: scan_cost FOLDER [THREADS]")?);
    let threads = match args.next() {
        Some(threads) => threads.to_str().ok_or("a number of threads")?.parse()?,
        None => NonZero::<usize>::MIN,
    };
    let fs = RealFs::open(&folder, "scan-cost")?;
    let started = Instant::now();
    let first = run(&fs, &HashMap::new(), threads)?;
    println!("first scan   {:>9.2} ms, {} files", ms(started.elapsed()), first.files.len());
    let cache: HashMap<String, Cached> = first
        .files
        .iter()
        .map(|found| {
            let scanned_at_ns = first.began_ns.saturating_add(3_600_000_000_000);
            let (stat, hash, kind) = (found.stat, found.hash, found.kind);
            (found.path.as_str().to_owned(), Cached { stat, hash, kind, scanned_at_ns })
        })
        .collect();
    let bare = best(|| walk(&folder).map(drop).map_err(Into::into))?;
    let ours = best(|| {
        let again = run(&fs, &cache, threads)?;
        assert!(again.files.iter().all(|found| !found.was_hashed), "nothing changed");
        Ok(())
    })?;
    println!("stat walk    {:>9.2} ms", ms(bare));
    println!("scan, cached {:>9.2} ms on {threads} threads", ms(ours));
    println!("ratio        {:>9.2}", ours.as_secs_f64() / bare.as_secs_f64());
    Ok(())
}

fn run(
    fs: &RealFs,
    cache: &HashMap<String, Cached>,
    threads: NonZero<usize>,
) -> Result<Scan, Box<dyn Error>> {
    let request = Request {
        cached: |at: &str| cache.get(at).copied(),
        now_ns: fs.clock_ns()?,
        known_mounts: &[],
        covered: &[],
        root: Root::Vault,
    };
    Ok(match threads.get() {
        1 => scan(fs, &request),
        _ => scan_parallel(fs, &request, threads),
    })
}

/// The least anybody can do: every folder listed, every name looked at.
fn walk(folder: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let stat = entry.metadata()?;
        bytes += if stat.is_dir() { walk(&entry.path())? } else { stat.len() };
    }
    Ok(bytes)
}

fn best(mut run: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<Duration, Box<dyn Error>> {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        run()?;
        best = best.min(started.elapsed());
    }
    Ok(best)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
