//! What lies between a device and the server: a TCP proxy that can cut, hold and chop.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Everything passes.
    Nothing,
    /// Everything passes, one byte at a time.
    IntoBytes,
    /// Both ways end after so many bytes went up.
    Up(u64),
    /// Both ways end after so many bytes came down.
    Down(u64),
    /// Connections are taken and nothing passes down.
    Stall,
}

struct State {
    target: SocketAddr,
    cut: Cut,
    up: u64,
    down: u64,
    stalled: u64,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// A listening proxy; it ends with the test.
pub struct Wire {
    /// Where to connect to.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Wire {
    /// Listens on a free port and passes everything on.
    pub fn to(target: SocketAddr) -> Wire {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { target, cut: Cut::Nothing, up: 0, down: 0, stalled: 0 };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let inside = shared.clone();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let target = inside.lock().target;
                // A server that is down refuses, and so does the wire, by closing.
                let Ok(far) = TcpStream::connect(target) else { continue };
                connect(near, far, &inside);
            }
        });
        Wire { address, shared }
    }

    /// Passes later connections to another place.
    pub fn retarget(&self, target: SocketAddr) {
        self.shared.lock().target = target;
    }

    /// Changes what happens from now on, and begins to count anew.
    pub fn set(&self, cut: Cut) {
        let mut state = self.shared.lock();
        (state.cut, state.up, state.down, state.stalled) = (cut, 0, 0, 0);
        self.shared.changed.notify_all();
    }

    /// Bytes that went up and came down since [`Wire::set`].
    pub fn passed(&self) -> (u64, u64) {
        let state = self.shared.lock();
        (state.up, state.down)
    }

    /// Waits until an answer is being held back by [`Cut::Stall`].
    pub fn wait_for_stall(&self) {
        let mut state = self.shared.lock();
        while state.stalled == 0 {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

fn connect(near: TcpStream, far: TcpStream, shared: &Arc<Shared>) {
    near.set_nodelay(true).ok();
    far.set_nodelay(true).ok();
    for way in [Way::Up, Way::Down] {
        let (near, far) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        let shared = shared.clone();
        thread::spawn(move || {
            let (mut from, mut to) = if way == Way::Up { (&near, &far) } else { (&far, &near) };
            let mut buffer = vec![0; 16 * 1024];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                if !pass(&shared, way, &buffer[..read], &mut to) {
                    near.shutdown(Shutdown::Both).ok();
                    far.shutdown(Shutdown::Both).ok();
                    return;
                }
            }
            to.shutdown(Shutdown::Write).ok();
        });
    }
}

/// Passes bytes on as the cut allows; `false` ends the connection.
fn pass(shared: &Shared, way: Way, bytes: &[u8], to: &mut impl Write) -> bool {
    let mut state = shared.lock();
    while state.cut == Cut::Stall && way == Way::Down {
        state.stalled += 1;
        shared.changed.notify_all();
        state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    let counted = if way == Way::Up { &mut state.up } else { &mut state.down };
    let before = *counted;
    *counted += bytes.len() as u64;
    let cut = state.cut;
    drop(state);
    let limit = match (cut, way) {
        (Cut::Up(limit), Way::Up) | (Cut::Down(limit), Way::Down) => limit,
        (Cut::IntoBytes, _) => {
            return bytes.chunks(1).all(|one| to.write_all(one).and_then(|()| to.flush()).is_ok());
        }
        _ => return to.write_all(bytes).is_ok(),
    };
    let left = usize::try_from(limit.saturating_sub(before)).unwrap_or(usize::MAX);
    let passing = left.min(bytes.len());
    to.write_all(&bytes[..passing]).is_ok() && passing == bytes.len()
}
