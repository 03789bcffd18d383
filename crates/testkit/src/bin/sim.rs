//! Runs simulated worlds: `sim --seeds 0..100000`, `sim --seconds 60`, `sim --seed 7`.
#![expect(clippy::print_stdout, reason = "a program for people at a terminal")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crucible_testkit::simulation::{Options, run};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (seeds, seconds) = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--seed", seed] => {
            let seed = seed.parse().unwrap_or(0);
            (seed..seed + 1, u64::MAX)
        }
        ["--seeds", range] => {
            let (from, to) = range.split_once("..").unwrap_or(("0", range));
            (from.parse().unwrap_or(0)..to.parse().unwrap_or(0), u64::MAX)
        }
        ["--seconds", seconds] => (0..u64::MAX, seconds.parse().unwrap_or(60)),
        _ => {
            println!("sim --seed N | --seeds A..B | --seconds S");
            return ExitCode::from(2);
        }
    };
    let began = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let failed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let late = began.elapsed() >= Duration::from_secs(seconds);
                    if seed >= seeds.end || late || failed.load(Ordering::Relaxed) > 0 {
                        return;
                    }
                    let first = run(seed, Options::of(seed));
                    let again = seed.is_multiple_of(64).then(|| run(seed, Options::of(seed)));
                    if again.is_some_and(|again| again != first) {
                        failed.fetch_add(1, Ordering::Relaxed);
                        println!("seed {seed} did not give the same trace twice");
                    }
                    if let Err(violation) = first {
                        failed.fetch_add(1, Ordering::Relaxed);
                        println!("{violation}");
                    }
                }
            });
        }
    });
    let done = next.load(Ordering::Relaxed).min(seeds.end) - seeds.start;
    println!("{done} seeds in {:.1} s", began.elapsed().as_secs_f64());
    ExitCode::from(u8::from(failed.load(Ordering::Relaxed) > 0))
}
