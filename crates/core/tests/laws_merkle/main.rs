//! The laws of the Merkle tree, each against a slow obvious twin (see [`world`]).
#![allow(clippy::unwrap_used, reason = "clippy sees tests only in functions marked as such")]
#![allow(clippy::print_stdout, reason = "the costs are for people to read")]

mod cost;
mod proof;
mod tree;
mod vectors;
mod walk;
mod world;
