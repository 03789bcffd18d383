//! What a replica needs of the world beyond a disk and a link: a clock and randomness. A shell
//! gives the real ones, the simulator gives its own.

/// Wall time and randomness.
pub trait World {
    /// Milliseconds since 1970, as this machine believes.
    fn now_ms(&self) -> u64;
    /// Sixteen bytes nobody can guess and nobody has had before.
    fn random(&mut self) -> [u8; 16];
}
