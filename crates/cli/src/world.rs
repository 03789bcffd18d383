//! The clock and the randomness of this machine; the only place that reads either.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crucible_node::http::Patience;
use crucible_node::world::World;

use crate::exit::{Failure, Outcome};

/// Shifts the clock of the whole program, in milliseconds: set once by `main` (for tests).
static OFFSET_MS: AtomicI64 = AtomicI64::new(0);

/// This machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Machine;

impl World for Machine {
    fn now_ms(&self) -> u64 {
        now_ms()
    }

    fn random(&mut self) -> [u8; 16] {
        // Without randomness ids could repeat, and repeated ids lose data: better not go on.
        random().expect("the system gives randomness")
    }
}

/// This machine as if it were earlier: what a history brings in has the dates it had there.
#[derive(Debug, Clone, Copy)]
pub struct Earlier {
    /// Milliseconds since 1970.
    pub at_ms: u64,
}

impl World for Earlier {
    fn now_ms(&self) -> u64 {
        self.at_ms.min(now_ms())
    }

    fn random(&mut self) -> [u8; 16] {
        Machine.random()
    }
}

/// Shifts the clock.
pub fn set_offset_ms(offset_ms: i64) {
    OFFSET_MS.store(offset_ms, Ordering::Relaxed);
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    ms.saturating_add_signed(OFFSET_MS.load(Ordering::Relaxed))
}

/// Bytes that nobody can guess.
///
/// # Errors
/// When the system has none.
pub fn random<const N: usize>() -> Outcome<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::failed(format!("the system gives no randomness: {error}")))?;
    Ok(bytes)
}

/// Real waiting, with real jitter.
pub fn patience() -> Patience {
    Patience {
        pause: Box::new(std::thread::sleep),
        random: Box::new(|| getrandom::u64().unwrap_or(0)),
    }
}
