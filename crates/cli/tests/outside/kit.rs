//! What every test here is made of.
//!
//! A [`World`] is a server with one user and as many devices as a test asks for; a [`Device`] is
//! a home and a folder, edited like a person would and synced with the real binary; a [`Ran`] is
//! what a command did, and every assertion on it tells the whole of that when it fails.

mod device;
mod ran;
mod server;
mod wire;
mod world;

pub use device::{Device, Tree, assert_same, settle};
pub use ran::{Ran, alone, cru, cru_binary, finish, run};
pub use server::Server;
pub use wire::Cut;
pub use world::World;

/// A tool from Debian: `false` (and a line on stderr) when it is not here.
pub fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !found {
        eprintln!("`{program}` is not installed, so this test shows nothing here");
    }
    found
}

/// A small generator of pseudo-random numbers (splitmix64); its seed is printed by who uses it.
pub struct Dice(pub u64);

impl Dice {
    /// The next number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).expect("below a usize")
    }
}
