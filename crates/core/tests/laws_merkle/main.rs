//! The laws of the Merkle tree, each against a slow obvious twin (see [`world`]).

mod tree;
mod world;
