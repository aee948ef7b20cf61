//! What reads bytes that others wrote, and what must hold whatever they are.
//!
//! One module for each target of `cargo xtask fuzz`. Each has a function `run`, which takes any
//! bytes and panics where a property does not hold. The same functions are run over the corpora by
//! a test of krpc-core, with any compiler.
//!
//! There is none for chunks: frames of that kind are reserved, and nothing reads them yet.

pub mod commit_metadata;
pub mod frame;
pub mod memory;
#[cfg(feature = "seal")]
pub mod open;
pub mod packet;
pub mod status;
pub mod ticket;
pub mod value;
