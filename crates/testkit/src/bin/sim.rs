//! Runs simulated worlds: `sim --seeds 0..100000`, `sim --seconds 60`, `sim --seed 7 --trace`;
//! `--failures N` goes on until so many have failed, `--whole` does not look for the smallest;
//! `sim --plants` says at which seed each bug on purpose is found.
#![expect(clippy::print_stdout, reason = "a program for people at a terminal")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crucible_testkit::simulation::{Options, Plant, run, shrink};

struct Wanted {
    seeds: std::ops::Range<u64>,
    seconds: u64,
    failures: u64,
    whole: bool,
    trace: bool,
    plants: bool,
}

fn parse(args: &[String]) -> Option<Wanted> {
    let mut wanted = Wanted {
        seeds: 0..u64::MAX,
        seconds: u64::MAX,
        failures: 1,
        whole: false,
        trace: false,
        plants: false,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seed" => {
                let seed: u64 = args.next()?.parse().ok()?;
                wanted.seeds = seed..seed + 1;
            }
            "--seeds" => {
                let (from, to) = args.next()?.split_once("..")?;
                wanted.seeds = from.parse().ok()?..to.parse().ok()?;
            }
            "--seconds" => wanted.seconds = args.next()?.parse().ok()?,
            "--failures" => wanted.failures = args.next()?.parse().ok()?,
            "--whole" => wanted.whole = true,
            "--trace" => wanted.trace = true,
            "--plants" => wanted.plants = true,
            _ => return None,
        }
    }
    Some(wanted)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(wanted) = parse(&args) else {
        println!("sim [--seed N | --seeds A..B] [--seconds S] [--failures N] [--whole] [--trace]");
        println!("sim --plants [--seeds A..B]");
        return ExitCode::from(2);
    };
    if wanted.plants {
        return find_plants(&wanted.seeds);
    }
    let began = Instant::now();
    let next = AtomicU64::new(wanted.seeds.start);
    let failed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| work(&wanted, began, &next, &failed));
        }
    });
    let done = next.load(Ordering::Relaxed).min(wanted.seeds.end) - wanted.seeds.start;
    println!("{done} seeds in {:.1} s", began.elapsed().as_secs_f64());
    ExitCode::from(u8::from(failed.load(Ordering::Relaxed) > 0))
}

/// Runs worlds with each bug on purpose until one fails.
fn find_plants(seeds: &std::ops::Range<u64>) -> ExitCode {
    const SEEDS_MAX: u64 = 20_000;
    let mut missed = false;
    for plant in Plant::ALL {
        let began = Instant::now();
        let mut tried = seeds.clone().take(SEEDS_MAX as usize);
        match tried.find(|seed| run(*seed, Options::planted(*seed, plant)).is_err()) {
            Some(seed) => {
                println!("{plant:?} at seed {seed} after {:.1} s", began.elapsed().as_secs_f64());
            }
            None => {
                println!("{plant:?} was not found");
                missed = true;
            }
        }
    }
    ExitCode::from(u8::from(missed))
}

fn work(wanted: &Wanted, began: Instant, next: &AtomicU64, failed: &AtomicU64) {
    loop {
        let late = began.elapsed() >= Duration::from_secs(wanted.seconds);
        if late || failed.load(Ordering::Relaxed) >= wanted.failures {
            return;
        }
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= wanted.seeds.end {
            return;
        }
        let first = run(seed, Options::of(seed));
        if seed.is_multiple_of(64) && run(seed, Options::of(seed)) != first {
            failed.fetch_add(1, Ordering::Relaxed);
            println!("seed {seed} did not give the same trace twice");
        }
        match first {
            Ok(trace) if wanted.trace => println!("{}", trace.join("\n")),
            Ok(_) => {}
            Err(violation) => {
                failed.fetch_add(1, Ordering::Relaxed);
                let violation = if wanted.whole { *violation } else { shrink(*violation) };
                println!("{violation}");
            }
        }
    }
}
